// How the page of `wsgw dev` names passes, in every order in which steps, events and what it sent itself can be told.

import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.window = { matchMedia: () => ({ matches: true }) };
const { Passes } = await import("../../src/dev/passes.js");

const CONNECTION = "c1";

/** The steps and events of a connection that opens and sends one ping, as functions that tell them. */
function scene() {
  const named = [];
  const passes = new Passes(["auth", "fan_out"], (pass) => named.push(pass));
  const step = (stage, outcome) => passes.step({ connection_id: CONNECTION, stage, outcome, micros: 1 });
  return {
    opens: () => step("auth", null),
    opened: () => step("auth", "published"),
    pings: () => step("auth", null),
    ponged: () => step("auth", "answered pong"),
    event: () => passes.event({ type: "connected", connection_id: CONNECTION, user_id: "demo" }, true),
    sent: () => passes.sent(CONNECTION, "ping"),
    names: () => named.map((pass) => [pass.what, pass.lifecycle]),
  };
}

for (const [told, order] of [
  ["all in turn", ["opens", "opened", "event", "sent", "pings", "ponged"]],
  ["the event before the opening's last step", ["opens", "event", "sent", "opened", "pings", "ponged"]],
  ["the event after the ping's answer", ["opens", "opened", "pings", "ponged", "event", "sent"]],
  ["the event between the ping's steps", ["opens", "opened", "pings", "event", "sent", "ponged"]],
]) {
  test(`a ping is named with ${told}`, () => {
    const tell = scene();
    for (const what of order) tell[what]();
    assert.deepEqual(tell.names(), [
      ["connected", true],
      ["ping", false],
    ]);
  });
}
