// One simulated client: a user, a socket, things to send, and a log of what came of it.

import { bounded, clock, el } from "./text.js";

const LOG_LINES = 200;
const FLOOD = 50;

const CLOSE_CODES = {
  1000: "closed as planned",
  1001: "gateway stopping",
  1006: "connection lost",
  1009: "message too big",
  1013: "try again later",
  4401: "unauthorised",
  4403: "disconnected by the backend",
  4408: "too slow a reader",
};

/** A client in its own card. */
export class Client {
  #parts = {};
  #socket = null;
  #path;
  #hooks;
  #last = null;
  /** The connection's id, once the gateway has told of it. */
  connection = null;

  constructor(place, { name, user, path, hooks }) {
    this.#path = path;
    this.#hooks = hooks;
    const card = document.getElementById("client").content.cloneNode(true);
    const section = card.querySelector("section");
    for (const part of card.querySelectorAll("[data-part]")) this.#parts[part.dataset.part] = part;
    const heading = section.querySelector("h2");
    heading.lastChild.textContent = name;
    heading.id = `${place.id}-title`;
    section.setAttribute("aria-labelledby", heading.id);
    this.#parts.log.setAttribute("aria-label", `${name}: connection log`);
    this.#parts.user.value = user;
    this.#listen(section);
    place.replaceChildren(card);
    this.#show("closed", "not connected");
    this.#hint();
  }

  get user() {
    return this.#parts.user.value.trim();
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  #listen(section) {
    const { "connect-form": connecting, compose, message, clear, log } = this.#parts;
    connecting.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#socket) this.#socket.close(1000, "closed by the page");
      else this.#connect();
    });
    compose.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(message.value);
    });
    message.addEventListener("input", () => this.#hint());
    message.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) compose.requestSubmit();
    });
    clear.addEventListener("click", () => {
      log.replaceChildren();
      this.#last = null;
    });
    section.querySelectorAll("[data-try]").forEach((button) => {
      button.addEventListener("click", () => this.#try(button.dataset.try));
    });
  }

  async #open(ttl) {
    const asked = new URLSearchParams({ user: this.user });
    const subject = this.#parts.subject.value.trim();
    if (subject) asked.set("subject", subject);
    if (ttl !== undefined) asked.set("ttl", ttl);
    const answer = await fetch(`/dev/token?${asked}`);
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    // The subprotocol keeps the token out of addresses, which end up in logs.
    return new WebSocket(`${scheme}://${location.host}${this.#path}`, ["bearer", body.token]);
  }

  async #connect() {
    this.#show("opening", "connecting");
    let socket;
    try {
      socket = await this.#open();
    } catch (error) {
      this.#show("refused", "no token");
      this.#log("error", error.message);
      return;
    }
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    const user = this.user;
    // The feed may tell of the connection before the socket does.
    this.#hooks.opened(this, user);
    socket.addEventListener("open", () => {
      this.#show("open", "connected");
      this.#log("opened", `as ${user}`);
    });
    socket.addEventListener("message", ({ data }) => this.#received(data));
    socket.addEventListener("close", ({ code, reason }) => {
      this.#socket = null;
      this.connection = null;
      this.#show(code === 4401 ? "refused" : "closed", code === 1000 ? "not connected" : `closed ${code}`);
      this.#closed(code, reason);
      this.#hooks.closed(this);
    });
  }

  #received(data) {
    if (typeof data !== "string") {
      this.#log("received", `binary, ${data.byteLength} bytes`);
      return;
    }
    let type;
    try {
      ({ type } = JSON.parse(data));
    } catch {
      type = undefined;
    }
    this.#log(type === "event" ? "push" : "received", data);
  }

  #send(data, shown = data) {
    if (!this.isOpen) return;
    this.#socket.send(data);
    this.#log("sent", shown);
    this.#hooks.sent(this, shown);
  }

  #try(what) {
    switch (what) {
      case "ping":
      case "heartbeat":
        this.#send(JSON.stringify({ type: what }));
        break;
      case "raw":
        this.#send("hello, this is no JSON");
        break;
      case "binary":
        this.#send(new Uint8Array([0xde, 0xad, 0xbe, 0xef]), "binary frame, 4 bytes: de ad be ef");
        break;
      case "flood": {
        const text = JSON.stringify({ type: "chat", topic: "room:1", payload: "flood" });
        for (let sent = 0; sent < FLOOD; sent += 1) this.#send(text);
        break;
      }
      case "expired":
        this.#expired();
        break;
    }
  }

  /** Opens one more socket, with a token that expired a minute ago; the one that is open stays. */
  async #expired() {
    try {
      const socket = await this.#open(-60);
      this.#log("sent", "one more socket, with an expired token");
      socket.addEventListener("close", ({ code, reason }) => this.#closed(code, reason));
    } catch (error) {
      this.#log("error", error.message);
    }
  }

  #closed(code, reason) {
    const known = CLOSE_CODES[code];
    const told = reason || known || "";
    const text = reason && known && code >= 4000 && known !== reason ? `${code} ${known}: ${reason}` : `${code} ${told}`;
    this.#log(code === 1000 ? "ended" : "closed", text.trim());
  }

  #log(kind, text) {
    const { log } = this.#parts;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
    if (this.#last?.kind === kind && this.#last.text === text && log.lastElementChild) {
      this.#last.count += 1;
      this.#last.counter.textContent = `×${this.#last.count}`;
      this.#last.counter.hidden = false;
    } else {
      const word = kind === "ended" ? "closed" : kind;
      const counter = el("span", { class: "count", hidden: true });
      const item = el(
        "li",
        { "data-kind": kind },
        el("span", { class: "at" }, clock()),
        el("span", { class: "kind" }, word),
        el("span", { class: "text" }, text, counter),
      );
      this.#last = { kind, text, count: 1, counter };
      bounded(log, item, LOG_LINES);
    }
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  #show(state, text) {
    const parts = this.#parts;
    parts.state.dataset.state = state;
    parts.state.textContent = text;
    const open = state === "open";
    const busy = state === "opening";
    parts.connect.textContent = open ? "Disconnect" : "Connect";
    parts.connect.disabled = busy;
    parts.connect.classList.toggle("primary", !open);
    parts.send.classList.toggle("primary", open);
    parts.send.disabled = !open;
    parts.user.readOnly = open || busy;
    parts.subject.readOnly = open || busy;
    for (const button of parts.compose.querySelectorAll("[data-try]")) {
      button.disabled = !open && button.dataset.try !== "expired";
    }
    this.#hint();
  }

  /** Says what the gateway will make of the text. */
  #hint() {
    const { hint, message } = this.#parts;
    if (!this.isOpen) {
      hint.textContent = "Connect first.";
      return;
    }
    let object = false;
    try {
      const value = JSON.parse(message.value);
      object = typeof value === "object" && value !== null && !Array.isArray(value);
    } catch {
      object = false;
    }
    hint.textContent = object ? "Ctrl+Enter sends too." : "No JSON object: the backend gets it as raw text.";
  }
}
