// The chat's page. Whatever comes from others is put into text nodes, never into markup.

import { Connection } from "./connection.js";
import { Channel, Identity, Refused } from "./crypto.js";

const { user: me, url, token, tokenUrl } = document.body.dataset;
document.body.removeAttribute("data-token");
const byId = (id) => document.getElementById(id);
const [people, log, form, text, send] = ["people", "log", "form", "text", "send"].map(byId);

/**
 * Who is here: name → { pages: connection → page, entries, unread }. A page is one tab of theirs, with the Channel to it
 * once its key came.
 */
const peers = new Map();
/** Channels by name and key: one that comes back after a lost connection goes on counting. */
const channels = new Map();
let current;
/** Whether the message's field gets the focus once it can be written in. */
let wantsFocus = false;
let identity;
let connection;
/** Envelopes are opened one after the other: their numbers must grow. */
let queue = Promise.resolve();

function trouble(message) {
  byId("trouble").textContent = message;
  byId("trouble").hidden = false;
}

async function renew() {
  const answer = await fetch(tokenUrl, { method: "POST", credentials: "same-origin" });
  if (answer.status === 401) throw Object.assign(new Error("signed out: open the page again"), { final: true });
  if (!answer.ok) throw new Error(`the application answered ${answer.status}`);
  return (await answer.json()).token;
}

function peer(name) {
  if (!peers.has(name)) peers.set(name, { name, pages: new Map(), entries: [], unread: 0 });
  return peers.get(name);
}

function arrived(name, id) {
  if (name === me) return;
  const { pages } = peer(name);
  if (!pages.has(id)) pages.set(id, { id, channel: undefined });
}

function left(name, id) {
  const found = peers.get(name);
  if (!found?.pages.delete(id)) return;
  if (found.pages.size === 0) note(found, `${name} left`);
}

/** Keeps a page's key; says so if somebody's key changed within a conversation. */
async function learn({ from, connection: id, key }) {
  arrived(from, id);
  const page = peer(from).pages.get(id);
  if (page.key === key) return;
  const known = JSON.stringify([from, key]);
  if (!channels.has(known)) {
    try {
      channels.set(known, await Channel.create(identity, key, me, from));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return note(peer(from), `A key of ${from} is refused: ${error.message}.`, "warn");
    }
    if (peer(from).hadKey) note(peer(from), `${from} has a new key. Compare the safety number again.`, "warn");
    peer(from).hadKey = true;
  }
  page.key = key;
  page.channel = channels.get(known);
}

const handlers = {
  "chat.roster": ({ connections }) => {
    const there = new Set(connections.map((entry) => entry.connection));
    for (const found of peers.values()) for (const id of found.pages.keys()) if (!there.has(id)) left(found.name, id);
    for (const entry of connections) arrived(entry.user, entry.connection);
  },
  "chat.joined": (push) => arrived(push.user, push.connection),
  "chat.left": (push) => left(push.user, push.connection),
  "chat.hello": async (push) => {
    if (push.from === me) return;
    await learn(push);
    connection.send({ type: "chat.key", to: push.from, key: identity.key });
  },
  "chat.key": async (push) => {
    if (push.from !== me) await learn(push);
  },
  "chat.sealed": async (push) => {
    if (push.from === me || push.to_key !== identity.id) return;
    const found = peer(push.from);
    const channel = channelsTo(found).find(({ theirId }) => theirId === push.from_key);
    if (!channel) return note(found, "A message came by a key that is not known.", "warn");
    try {
      const content = await channel.open(push);
      wire(push);
      if (content.type === "text") {
        add(found, { kind: "theirs", text: String(content.text), time: new Date() });
        await post(push.from, channel, { type: "ack", id: content.id });
      } else if (content.type === "ack") {
        const entry = found.entries.find(({ id }) => id === content.id);
        if (entry) entry.state = "delivered";
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      note(found, `A message from ${push.from} is refused: ${error.message}.`, "warn");
    }
  },
};

/** The ways to somebody's pages; a page whose lost connection still counts has one only. */
function channelsTo(found) {
  return [...new Set([...found.pages.values()].map(({ channel }) => channel).filter(Boolean))];
}

async function post(to, channel, content) {
  const envelope = await channel.seal(content);
  const message = { type: "chat.sealed", to, ...envelope };
  if (content.type === "text") wire(message);
  return connection.send(message);
}

async function say(found, words) {
  const entry = { kind: "mine", id: crypto.randomUUID(), text: words, time: new Date(), state: "sending" };
  add(found, entry);
  let sent = false;
  for (const channel of channelsTo(found)) {
    sent = (await post(found.name, channel, { type: "text", id: entry.id, text: words })) || sent;
  }
  if (!sent) entry.state = "failed";
  else if (entry.state === "sending") entry.state = "sent";
}

function add(found, entry) {
  found.entries.push(entry);
  if (found !== current && entry.kind === "theirs") found.unread += 1;
  if (!current && entry.kind === "theirs") {
    choose(found.name);
    wantsFocus = false;
  }
}

function note(found, words, kind = "note") {
  add(found, { kind, text: words, time: new Date() });
}

function wire(message) {
  byId("wire").textContent = JSON.stringify(message, null, 1);
}

function choose(name) {
  current = peer(name);
  current.unread = 0;
  log.replaceChildren();
  wantsFocus = true;
  draw();
}

const isHere = (found) => found.pages.size > 0;
const WORDS = { sending: "sending", sent: "sent", delivered: "delivered", failed: "not sent: nobody is there" };

function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

/** Brings the page in line with what is known. Elements that are there stay, so that focus and screen readers do too. */
function draw() {
  const shown = [...peers.values()].filter((found) => isHere(found) || found.entries.length > 0);
  shown.sort((one, two) => isHere(two) - isHere(one) || one.name.localeCompare(two.name));
  byId("nobody").hidden = shown.some(isHere);
  const buttons = new Map([...people.querySelectorAll("button")].map((button) => [button.dataset.name, button.parentElement]));
  shown.forEach((found, at) => {
    const item = buttons.get(found.name) ?? person(found.name);
    buttons.delete(found.name);
    const button = item.firstElementChild;
    button.setAttribute("aria-current", String(found === current));
    button.dataset.here = String(isHere(found));
    button.querySelector(".state").textContent = isHere(found) ? "online" : "offline";
    const badge = button.querySelector(".badge");
    badge.textContent = found.unread ? `${found.unread} new` : "";
    badge.hidden = found.unread === 0;
    if (people.children[at] !== item) people.insertBefore(item, people.children[at] ?? null);
  });
  for (const item of buttons.values()) item.remove();

  const ready = Boolean(current && channelsTo(current).length);
  text.disabled = send.disabled = !ready;
  if (ready && wantsFocus) {
    wantsFocus = false;
    text.focus();
  }
  byId("lock").hidden = !ready;
  byId("safety").hidden = !ready;
  byId("safety-none").hidden = ready;
  if (!current) return;
  byId("talk-title").textContent = current.name;
  byId("safety-name").textContent = current.name;
  const numbers = channelsTo(current).map(({ safetyNumber }) => safetyNumber);
  const list = byId("numbers");
  if (list.dataset.shown !== numbers.join()) {
    list.dataset.shown = numbers.join();
    list.replaceChildren(...numbers.map((number) => element("li", "number", number)));
  }
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  current.entries.forEach((entry, at) => {
    const item = log.children[at] ?? log.appendChild(line(entry));
    const state = item.querySelector(".delivery");
    if (state && state.textContent !== WORDS[entry.state]) {
      state.textContent = WORDS[entry.state];
      state.dataset.state = entry.state;
    }
  });
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function person(name) {
  const badge = element("span", "badge");
  const avatar = element("span", "avatar", [...name][0].toUpperCase());
  avatar.setAttribute("aria-hidden", "true");
  const button = element("button", "person", avatar, element("span", "name", name), element("span", "state"), badge);
  button.type = "button";
  button.dataset.name = name;
  button.addEventListener("click", () => choose(name));
  return element("li", "", button);
}

function line(entry) {
  const time = element("time", "", entry.time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = entry.time.toISOString();
  if (entry.kind !== "mine" && entry.kind !== "theirs") return element("li", entry.kind, entry.text);
  const who = element("span", "hidden", entry.kind === "mine" ? "You: " : `${current.name}: `);
  const foot = element("span", "foot", time);
  if (entry.kind === "mine") foot.append(element("span", "delivery"));
  return element("li", entry.kind, element("p", "bubble", who, entry.text), foot);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const words = text.value.trim();
  if (!words || !current) return;
  text.value = "";
  fit();
  const to = current;
  queue = queue.then(() => say(to, words)).catch(report).finally(draw);
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
text.addEventListener("input", fit);

function fit() {
  text.rows = Math.min(6, text.value.split("\n").length);
}

function report(error) {
  console.error(error);
  trouble("Something went wrong in this page. Reload it.");
}

async function start() {
  if (!globalThis.crypto?.subtle) {
    return trouble("Browsers encrypt on secure pages only: use HTTPS, or localhost.");
  }
  identity = await Identity.create();
  connection = new Connection(url, token, renew);
  connection.addEventListener("state", ({ detail }) => {
    byId("status").dataset.state = detail.state;
    byId("status-text").textContent = detail.text;
    if (detail.state === "live" && detail.text === "connected") connection.send({ type: "chat.hello", key: identity.key });
  });
  connection.addEventListener("push", ({ detail }) => {
    const handler = detail && Object.hasOwn(handlers, detail.type) ? handlers[detail.type] : undefined;
    if (handler) queue = queue.then(() => handler(detail)).catch(report).finally(draw);
  });
  connection.open();
}

start().catch(report);
