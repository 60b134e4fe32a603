// Each message's way through the stages: put together from the gateway's steps, and shown as boxes that light up.

import { bounded, clock, el, micros, shortened } from "./text.js";

const LIGHT_UP_MS = 110;
const BURST_MS = 250;
const BURST_FROM = 5;
const LISTED = 12;

const ABOUT = {
  auth: () => "admits by token",
  ping_filter: () => "answers pings itself",
  rate_limit: (s) => (s?.per_second ? `${s.per_second}/s, burst of ${s.burst}` : "off"),
  ordering_key: (s) => (s?.strategy === "topic" ? `order within one ${s.topic_field}` : `by ${s?.strategy}`),
  trace: (s) => (s?.strategy === "full" ? "starts a trace" : "copies the trace"),
  fan_out: () => "makes the event",
};

const stillness = window.matchMedia("(prefers-reduced-motion: reduce)");

/** Puts steps together to passes: one for each message, by connection, since a connection has one at a time. */
export class Passes {
  #first;
  #count = 0;
  #open = new Map();
  #published = new Map();
  #sent = new Map();
  #users = new Map();
  #early = new Map();
  #finished = new Map();
  #unnamed = new Map();
  #done;

  constructor(stages, done) {
    this.#first = stages[0];
    this.#done = done;
  }

  /** A client of this page sent something on a connection: it names the pass that follows, or the one it gives back. */
  sent(connection, text) {
    // The pass may be complete before the page knows whose connection it is.
    const pass = this.#unnamed.get(connection)?.shift();
    if (!pass) this.#sent.get(connection)?.push(text);
    else if (!pass.what) pass.what = text;
    return pass ?? null;
  }

  step({ connection_id: connection, stage, outcome, micros: took }) {
    if (outcome === null) {
      if (stage === this.#first) this.#open.set(connection, { id: (this.#count += 1), connection, at: new Date(), entered: [], took: {} });
      this.#open.get(connection)?.entered.push(stage);
      return;
    }
    const pass = this.#open.get(connection);
    if (!pass) return;
    pass.took[stage] = took;
    if (stage !== this.#first) return;
    this.#open.delete(connection);
    this.#finish(pass, outcome, took);
  }

  #finish(pass, outcome, took) {
    const answer = outcome.startsWith("answered ") ? outcome.slice(9) : null;
    pass.total = took;
    pass.at_stage = pass.entered.at(-1);
    pass.state = outcome === "published" ? "passed" : answer ? "answered" : "stopped";
    pass.outcome = outcome;
    pass.user = this.#users.get(pass.connection) ?? "";
    // The first thing that passes on a connection is its opening.
    const before = this.#finished.get(pass.connection) ?? 0;
    pass.lifecycle = before === 0 && !this.#users.has(pass.connection);
    this.#finished.set(pass.connection, before + 1);
    // Nobody sent anything for that one, though what follows may be known before its last step is told.
    pass.what = (before > 0 && this.#sent.get(pass.connection)?.shift()) || "";
    if (!pass.lifecycle && !this.#users.has(pass.connection)) {
      this.#unnamed.set(pass.connection, [...(this.#unnamed.get(pass.connection) ?? []), pass]);
    }
    const early = pass.state === "passed" ? this.#early.get(pass.connection)?.shift() : null;
    if (early) {
      this.#name(pass, early);
    } else if (pass.state === "passed") {
      const queue = this.#published.get(pass.connection) ?? [];
      queue.push(pass);
      this.#published.set(pass.connection, queue);
    }
    this.#done(pass);
  }

  /** An event came out: gives the pass that made it, named by it. */
  event(event, live) {
    const connection = event.connection_id;
    this.#users.set(connection, event.user_id);
    if (!live) return null;
    const pass = this.#published.get(connection)?.shift();
    if (event.type === "connected") this.#sent.set(connection, []);
    // The feed may tell an event before the last step of the pass that made it.
    if (!pass) this.#early.set(connection, [...(this.#early.get(connection) ?? []), event]);
    else this.#name(pass, event);
    if (event.type === "disconnected" && pass) this.#forget(connection);
    return pass ?? null;
  }

  #name(pass, event) {
    pass.user = event.user_id;
    pass.lifecycle = event.type !== "message_received";
    if (pass.lifecycle) pass.what = event.type;
    else pass.what = event.raw ?? `binary frame, ${event.message.payload}`;
  }

  /** Some steps or events were not told: what is half known would only be put together wrongly. */
  missed() {
    this.#open.clear();
    this.#published.clear();
    this.#early.clear();
    this.#sent.clear();
    this.#unnamed.clear();
  }

  #forget(connection) {
    this.#published.delete(connection);
    this.#early.delete(connection);
    this.#finished.delete(connection);
    this.#sent.delete(connection);
    this.#unnamed.delete(connection);
    this.#users.delete(connection);
  }
}

/** Shows the stages as a row of boxes, the latest pass on them, and a list of passes. */
export class PipelineView {
  #stages;
  #boxes = new Map();
  #timers = [];
  #shown = null;
  #rows = [];
  #burst = { last: 0, total: 0, published: 0, answered: 0, stopped: new Map() };
  #parts;

  constructor(stages, parts) {
    this.#stages = stages.map((stage) => stage.name);
    this.#parts = parts;
    parts.stages.replaceChildren(...stages.map((stage) => this.#box(stage)));
  }

  #box({ name, settings }) {
    const word = el("span", { class: "word" });
    const time = el("span", { class: "time" });
    const box = el(
      "li",
      { class: "stage", "data-stage": name, "data-state": "idle" },
      el("div", { class: "stage-name" }, name),
      el("div", { class: "stage-about" }, ABOUT[name]?.(settings) ?? ""),
      el("div", { class: "stage-result" }, word, time),
    );
    this.#boxes.set(name, { box, word, time });
    return box;
  }

  /** A pass is complete. */
  add(pass) {
    pass.burst = pass.lifecycle ? null : this.#count(pass);
    this.#list(pass);
    this.show(pass, (pass.burst?.total ?? 1) === 1 && !stillness.matches);
  }

  /** A pass that is shown already has been named by its event. */
  named(pass) {
    const row = this.#rows.find((row) => row.passes.includes(pass));
    if (row) this.#write(row);
    if (this.#shown === pass) this.#caption();
  }

  /** Shows a pass on the boxes. */
  show(pass, lightUp) {
    this.#timers.forEach(clearTimeout);
    this.#timers = [];
    this.#shown = pass;
    this.#mark();
    this.#caption();
    this.#parts.from.classList.add("lit");
    this.#parts.to.classList.remove("lit");
    const last = this.#stages.indexOf(pass.at_stage);
    this.#stages.forEach((name, at) => {
      const settle = () => this.#settle(name, at, last, pass);
      if (!lightUp || at > last) {
        settle();
        return;
      }
      this.#set(name, "idle", "", "");
      this.#timers.push(
        setTimeout(() => this.#set(name, "running", "", ""), at * LIGHT_UP_MS),
        setTimeout(settle, (at + 1) * LIGHT_UP_MS),
      );
    });
    const arrive = () => this.#parts.to.classList.toggle("lit", pass.state === "passed");
    if (lightUp) this.#timers.push(setTimeout(arrive, (last + 2) * LIGHT_UP_MS));
    else arrive();
  }

  #settle(name, at, last, pass) {
    if (at > last) {
      this.#set(name, "skipped", "not reached", "");
      return;
    }
    // A stage's time includes those below it: what is left when theirs is taken away is its own.
    const below = at < last ? (pass.took[this.#stages[at + 1]] ?? 0) : 0;
    const own = micros(Math.max(0, (pass.took[name] ?? 0) - below));
    if (at < last) this.#set(name, "passed", "passed", own);
    else if (pass.state === "passed") this.#set(name, "passed", "published", own);
    else this.#set(name, pass.state, pass.state, own);
  }

  #set(name, state, word, time) {
    const parts = this.#boxes.get(name);
    parts.box.dataset.state = state;
    parts.word.textContent = word;
    parts.time.textContent = time;
  }

  #count(pass) {
    const now = performance.now();
    if (now - this.#burst.last > BURST_MS) {
      this.#burst = { last: now, total: 0, published: 0, answered: 0, stopped: new Map() };
    }
    const burst = this.#burst;
    burst.last = now;
    burst.total += 1;
    if (pass.state === "passed") burst.published += 1;
    else if (pass.state === "answered") burst.answered += 1;
    else burst.stopped.set(pass.at_stage, (burst.stopped.get(pass.at_stage) ?? 0) + 1);
    return burst;
  }

  #caption() {
    const pass = this.#shown;
    const burst = pass.burst;
    if (burst && burst.total >= BURST_FROM) {
      const told = [`${burst.published} published`];
      if (burst.answered) told.push(`${burst.answered} answered`);
      for (const [stage, count] of burst.stopped) told.push(`${count} stopped by ${stage}`);
      this.#parts.caption.replaceChildren(el("b", {}, `${burst.total} messages at once`), `: ${told.join(", ")}.`);
      return;
    }
    const who = pass.user || "a client";
    const what = pass.what ? el("span", { class: "mono" }, shortened(pass.what, 90)) : "a message";
    const told = pass.lifecycle ? [el("b", {}, who), ` ${pass.what || "connected"}: `] : [el("b", {}, who), " sent ", what, ": "];
    this.#parts.caption.replaceChildren(...told, el("b", {}, ended(pass)), ` after ${micros(pass.total)}.`);
  }

  #list(pass) {
    const top = this.#rows[0];
    const alike = top && top.pass.connection === pass.connection && top.pass.what === pass.what && ended(top.pass) === ended(pass);
    if (alike && !pass.lifecycle) {
      top.passes.push(pass);
      top.pass = pass;
      this.#write(top);
      return;
    }
    const button = el("button", { type: "button", class: "pass" });
    const row = { pass, passes: [pass], button };
    button.addEventListener("click", () => this.show({ ...row.pass, burst: null }, !stillness.matches));
    this.#rows.unshift(row);
    this.#rows.length = Math.min(this.#rows.length, LISTED);
    this.#write(row);
    bounded(this.#parts.list, el("li", {}, button), LISTED, { atTop: true });
  }

  #write(row) {
    const { pass, button } = row;
    const count = row.passes.length > 1 ? [el("span", { class: "count" }, `×${row.passes.length}`)] : [];
    button.dataset.state = pass.state;
    button.replaceChildren(
      el("span", { class: "at" }, clock(pass.at)),
      el("span", { class: "who" }, pass.user || "…"),
      el("span", { class: "what" }, shortened(pass.what || "message", 120), ...count),
      el("span", {}, el("span", { class: "end-word" }, ended(pass)), " ", el("span", { class: "time" }, micros(pass.total))),
    );
  }

  #mark() {
    for (const row of this.#rows) row.button.setAttribute("aria-current", String(row.passes.some((pass) => pass.id === this.#shown.id)));
  }
}

/** How a pass ended, in words. */
function ended(pass) {
  if (pass.state === "passed") return "published";
  if (pass.state === "answered") return `answered by ${pass.at_stage}`;
  return `stopped by ${pass.at_stage}`;
}
