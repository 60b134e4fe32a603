// The operator's page: asks for the key, then asks the gateway every two seconds how it does.

import { call, key, Refused, told } from "./api.js";
import { Configuration } from "./configuration.js";
import { Connections } from "./connections.js";
import { byId, duration, setText } from "./dom.js";
import { History } from "./history.js";
import { Letters } from "./letters.js";
import { Overview, stateWord } from "./overview.js";
import { LiveTail } from "./tail.js";

const EVERY_MS = 2_000;
const VIEWS = ["overview", "connections", "dead-letters", "tail", "configuration"];

const overview = new Overview();
const connections = new Connections();
const letters = new Letters();
const tail = new LiveTail();
const configuration = new Configuration();
const opened = { connections, "dead-letters": letters, configuration };

let history = new History();
let running = 0;
let current = null;
let answeredAt = 0;
/** Where answers come from several gateways, their names. */
let nodes = new Set();

function notice(state, text) {
  const box = byId("notice");
  box.hidden = !text;
  box.className = `notice ${state}`;
  setText(box, text);
}

function setState(state, text) {
  const pill = byId("state");
  pill.hidden = false;
  if (pill.dataset.state !== state) pill.dataset.state = state;
  setText(pill, text);
}

/** Shows the view that the address names. */
function route() {
  const wanted = location.hash.slice(1);
  const name = VIEWS.includes(wanted) ? wanted : "overview";
  if (!running) return;
  for (const view of VIEWS) byId(view).hidden = view !== name;
  for (const link of byId("nav").children) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (current !== name) {
    opened[current]?.left?.();
    current = name;
    opened[name]?.opened();
  }
}

/** Shows the form for the key. */
function locked(reason) {
  running = 0;
  current = null;
  key.forget();
  tail.stop();
  for (const id of [...VIEWS, "nav", "lock", "state", "node"]) byId(id).hidden = true;
  notice("", "");
  document.title = "wsgw operator";
  byId("sign-in").hidden = false;
  byId("key-error").hidden = !reason;
  setText(byId("key-error"), reason ?? "");
  byId("key").value = "";
  byId("key").focus();
}

function unlocked() {
  byId("sign-in").hidden = true;
  for (const id of ["nav", "lock"]) byId(id).hidden = false;
  route();
}

function show(status) {
  const change = history.add(status);
  nodes.add(status.node_id);
  setText(byId("node"), status.node_id);
  byId("node").hidden = false;
  setState(status.state, stateWord(status.state));
  document.title = `${stateWord(status.state)} · ${status.node_id}`;
  document.body.dataset.stale = "false";
  if (nodes.size > 1) {
    notice("bad", `Answers come from several gateways (${[...nodes].join(", ")}): open each one's own address.`);
  } else if (change === "restart") {
    notice("", "The gateway was started again: counts begin anew.");
  } else if (byId("notice").className === "notice bad") {
    notice("", "");
  }
  overview.show(status, history);
  letters.show(status);
  configuration.show(status);
  byId("connections-where").textContent =
    "Of all gateways where presence is kept in Redis, else of this one. Disconnecting acts on this one alone.";
}

function unreachable(error) {
  setState("lost", "Not reachable");
  document.title = "Not reachable · wsgw operator";
  document.body.dataset.stale = "true";
  const since = answeredAt ? ` What is shown is ${duration(Math.round((Date.now() - answeredAt) / 1000) || 1)} old.` : "";
  notice("bad", `${told(error)}${since} Trying again every 2 seconds.`);
}

/** Asks until the page is locked; one question at a time. */
async function run() {
  running += 1;
  const mine = running;
  history = new History();
  nodes = new Set();
  let seen = false;
  while (running === mine) {
    const asked = Date.now();
    let status = null;
    try {
      status = await call("status", { patience: 5_000 });
    } catch (error) {
      if (running !== mine) return;
      if (error instanceof Refused && [401, 403].includes(error.status)) {
        locked(seen ? "The key is no longer accepted." : "The gateway does not accept this key.");
        return;
      }
      if (error instanceof Refused && error.status === 404) {
        locked("The gateway no longer serves this page: admin.enabled is false.");
        return;
      }
      byId("sign-in").hidden = true;
      byId("lock").hidden = false;
      unreachable(error);
    }
    if (running !== mine) return;
    if (status) {
      answeredAt = Date.now();
      show(status);
      if (!seen) unlocked();
      seen = true;
    }
    await new Promise((done) => setTimeout(done, Math.max(200, EVERY_MS - (Date.now() - asked))));
  }
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const entered = byId("key").value.trim();
  if (!entered) return;
  key.set(entered);
  byId("key").value = "";
  byId("key-error").hidden = true;
  run();
});
byId("lock").addEventListener("click", () => locked());
addEventListener("hashchange", () => {
  route();
  byId("main").focus({ preventScroll: true });
});

if (key.get()) run();
else locked();
