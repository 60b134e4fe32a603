// The development page: wires the clients, the pipeline and the backend's side to the gateway that served it.

import { Client } from "./client.js";
import { Passes, PipelineView } from "./passes.js";
import { bounded, clock, el, prettyJson, prettyYaml, shellWord } from "./text.js";

const EVENTS_KEPT = 200;
const byId = (id) => document.getElementById(id);

let info;
let passes;
let view;
const opening = [];

/** What the backend gets: a list, and one event in full. */
const events = {
  known: new Set(),
  rows: [],
  shown: null,
  following: true,

  add(text) {
    const event = JSON.parse(text);
    if (this.known.has(event.event_id)) return null;
    this.known.add(event.event_id);
    const button = el(
      "button",
      { type: "button", class: "event" },
      el("span", { class: "type" }, event.type),
      el("span", { class: "who" }, `${clock(eventTime(event))} · ${event.user_id} · seq ${event.seq}`),
    );
    const row = { event, text, button };
    button.addEventListener("click", () => {
      this.following = row === this.rows[0];
      this.show(row);
    });
    this.rows.unshift(row);
    if (this.rows.length > EVENTS_KEPT) this.known.delete(this.rows.pop().event.event_id);
    bounded(byId("events"), el("li", {}, button), EVENTS_KEPT, { atTop: true });
    byId("no-events").hidden = true;
    byId("events").hidden = false;
    byId("event-json").hidden = false;
    if (this.following) this.show(row);
    return event;
  },

  show(row) {
    this.shown?.button.removeAttribute("aria-current");
    this.shown = row;
    row.button.setAttribute("aria-current", "true");
    byId("event-json").replaceChildren(prettyJson(row.text));
    byId("event-json").scrollTop = 0;
  },
};

/** When the event was made: a UUID of version 7 begins with it. */
function eventTime(event) {
  const millis = Number.parseInt(event.event_id.replaceAll("-", "").slice(0, 12), 16);
  return new Date(millis);
}

function showFeed(state, text) {
  byId("feed-status").dataset.state = state;
  byId("feed-text").textContent = text;
}

async function loadInfo() {
  const answer = await fetch("/dev/info");
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  info = body;
}

/** Follows what the gateway does. */
function follow() {
  const feed = new EventSource("/dev/events");
  let opened = false;
  let live = false;
  feed.addEventListener("open", async () => {
    showFeed("live", `live at ${location.host}`);
    // A gateway that was started anew has another key.
    if (opened) await loadInfo().then(showCommand, () => {});
    opened = true;
  });
  feed.addEventListener("error", () => {
    live = false;
    showFeed("lost", "gateway not reachable, trying again");
    passes.missed();
  });
  feed.addEventListener("step", ({ data }) => passes.step(JSON.parse(data)));
  feed.addEventListener("live", () => {
    live = true;
  });
  feed.addEventListener("event", ({ data }) => {
    const event = events.add(data);
    if (!event) return;
    const pass = passes.event(event, live);
    if (pass) view.named(pass);
    if (live && event.type === "connected") claim(event);
  });
  feed.addEventListener("missed", ({ data }) => {
    const { what, count } = JSON.parse(data);
    passes.missed();
    const note = byId("missed");
    note.hidden = false;
    note.textContent = `Too fast for this page: ${count} ${what} are not shown. The gateway lost none.`;
  });
}

/** Gives a new connection to the client of this page that opened it. */
function claim(event) {
  const at = opening.findIndex((waiting) => waiting.user === event.user_id);
  if (at < 0) return;
  const [{ client, sent }] = opening.splice(at, 1);
  client.connection = event.connection_id;
  for (const text of sent) name(client.connection, text);
}

/** Names the pass of what a client sent. */
function name(connection, text) {
  const pass = passes.sent(connection, text);
  if (pass) view.named(pass);
}

const hooks = {
  opened(client, user) {
    opening.push({ client, user, sent: [] });
  },
  sent(client, text) {
    if (client.connection) name(client.connection, text);
    else opening.find((waiting) => waiting.client === client)?.sent.push(text);
  },
  closed(client) {
    const at = opening.findIndex((waiting) => waiting.client === client);
    if (at >= 0) opening.splice(at, 1);
  },
};

function pushBody() {
  const payload = byId("push-payload").value.trim();
  JSON.parse(payload);
  // As written, since the gateway passes it on as written.
  return `{"subjects":${JSON.stringify([byId("push-to").value.trim()])},"payload":${payload}}`;
}

function showCommand() {
  let body;
  try {
    body = pushBody();
  } catch {
    byId("push-curl").textContent = "The payload is no JSON yet.";
    return;
  }
  byId("push-curl").textContent =
    `curl -s ${location.origin}/internal/publish -H ${shellWord(`X-API-Key: ${info.api_key}`)} -d ${shellWord(body)}`;
}

async function call(path, body) {
  const result = byId("push-result");
  try {
    const answer = await fetch(path, { method: "POST", headers: { "X-API-Key": info.api_key }, body });
    const text = await answer.text();
    result.dataset.state = answer.ok ? "ok" : "bad";
    result.textContent = `${answer.status} ${text}`;
  } catch {
    result.dataset.state = "bad";
    result.textContent = "The gateway cannot be reached.";
  }
}

function wirePush() {
  byId("push").addEventListener("submit", async (event) => {
    event.preventDefault();
    let body;
    try {
      body = pushBody();
    } catch (error) {
      byId("push-result").dataset.state = "bad";
      byId("push-result").textContent = `The payload is no JSON: ${error.message}`;
      return;
    }
    await call("/internal/publish", body);
  });
  byId("push").addEventListener("input", showCommand);
  byId("kick").addEventListener("click", () => {
    if (!byId("push").reportValidity()) return;
    call("/internal/disconnect", JSON.stringify({ subject: byId("push-to").value.trim(), reason: "asked on the dev page" }));
  });
  byId("copy-curl").addEventListener("click", async () => {
    const button = byId("copy-curl");
    try {
      await navigator.clipboard.writeText(byId("push-curl").textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(byId("push-curl"));
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

function wirePipelineFile() {
  const button = byId("show-file");
  byId("pipeline-text").replaceChildren(prettyYaml(info.pipeline));
  button.addEventListener("click", () => {
    const box = byId("pipeline-file");
    box.hidden = !box.hidden;
    button.setAttribute("aria-expanded", String(!box.hidden));
  });
}

async function start() {
  await loadInfo();
  byId("version").textContent = info.version;
  view = new PipelineView(info.stages, {
    stages: byId("stages"),
    caption: byId("caption"),
    from: byId("from"),
    to: byId("to"),
    list: byId("passes"),
  });
  passes = new Passes(info.stages.map((stage) => stage.name), (pass) => view.add(pass));
  const other = info.user === "alice" ? "bob" : "alice";
  new Client(byId("client-one"), { name: "Client", user: info.user, path: info.path, hooks });
  new Client(byId("client-two"), { name: "Second client", user: other, path: info.path, hooks });
  byId("push-to").value = `${info.user_prefix}${info.user}`;
  const subjects = [`${info.user_prefix}${info.user}`, `${info.user_prefix}${other}`, "room:1"];
  byId("subjects").replaceChildren(...subjects.map((value) => el("option", { value })));
  wirePush();
  wirePipelineFile();
  showCommand();
  follow();
}

start().catch((error) => showFeed("lost", `this page could not start: ${error.message}`));
