// The first view: is all well, how much passes, and where it waits.

import { Chart } from "./chart.js";
import { badge, byId, bytes, compact, count, duration, el, facts, plural, rate, row, setText, sync, time } from "./dom.js";
import { Flow } from "./flow.js";
import { sum } from "./history.js";

const STATES = {
  ready: "Ready",
  not_ready: "Not ready",
  starting: "Starting",
  draining: "Draining",
};

export const stateWord = (state) => STATES[state] ?? state;

export class Overview {
  constructor() {
    this.charts = [
      new Chart("Connections", "open", compact),
      new Chart("Messages from clients, a second", "messages", rate),
      new Chart("Events delivered, a second", "events", rate),
      new Chart("Pushes to clients, a second", "pushes", rate),
      new Chart("Events waiting in buffers", "buffered", compact),
      new Chart("CPU, of one core", "cpu", (value) => `${value.toFixed(value < 10 ? 1 : 0)} %`),
    ];
    byId("tiles").replaceChildren(...this.charts.map((chart) => chart.element));
    this.flow = new Flow(byId("flow"));
  }

  show(status, history) {
    this.#health(status);
    for (const chart of this.charts) chart.draw(history.samples);
    this.flow.show(status, history);
    this.#sinks(status.sinks, history);
    this.#sources(status.sources, history);
    this.#gateway(status);
  }

  #health({ state, checks }) {
    const bad = Object.entries(checks).filter(([name, text]) => name !== "gateway" && text !== "ok");
    const list = bad.map(([name]) => name).join(", ");
    const sentences = {
      ready: bad.length > 0 ? `Takes connections, though all is not well: ${list}.` : "Takes connections; all is well.",
      not_ready: `Should get no new connections: ${list || "a dependency"} is away.`,
      starting: "Starts, and is not ready yet.",
      draining: "Stops: connections are being closed, and what is buffered is delivered.",
    };
    setText(byId("sentence"), sentences[state] ?? state);
    sync(
      byId("checks"),
      Object.entries(checks),
      ([name]) => name,
      ([name]) => el("li", {}, el("span", { class: "name" }, name), el("span", { class: "text" })),
      (child, [, text]) => {
        child.dataset.state = text === "ok" ? "ok" : "bad";
        setText(child.lastElementChild, text);
      },
    );
  }

  #sinks(sinks, history) {
    byId("no-sinks").hidden = sinks.length > 0;
    sync(
      byId("sinks"),
      sinks,
      (sink) => sink.name,
      () => row("name", "", "buffer", "n", "n", "n", "n", "n"),
      (child, sink) => {
        const now = (status) => status.sinks.find((other) => other.name === sink.name);
        const [name, state, buffer, oldest, delivered, tries, retries, dead] = child.children;
        setText(name, sink.name);
        state.replaceChildren(up(sink.up, sink.configured ? undefined : "removed, finishing"));
        fillBuffer(buffer, sink);
        setText(oldest, sink.buffered_events > 0 ? duration(sink.oldest_event_age_seconds) : "–");
        oldest.dataset.state = sink.oldest_event_age_seconds > 60 ? "bad" : "";
        const perSecond = history.rate((status) => now(status)?.delivered_total);
        setText(delivered, `${rate(perSecond)}/s`);
        delivered.title = `${count(sink.delivered_total)} since the start`;
        const q = history.quantiles((status) => now(status)?.timed, 0.5, 0.99);
        setText(tries, q ? q.map(bound).join(" / ") : "–");
        setText(retries, count(sink.retries_total));
        const letters = sum(sink.dead_letters_total);
        setText(dead, letters > 0 ? `${count(letters)}: ${reasons(sink.dead_letters_total)}` : "0");
        dead.dataset.state = letters > 0 ? "bad" : "";
      },
    );
  }

  #sources(sources, history) {
    sync(
      byId("sources"),
      [...sources, { name: "http", http: true }],
      (source) => source.name,
      () => row("name", "", "n", "n", "n"),
      (child, source) => {
        const [name, state, pushes, malformed, lag] = child.children;
        setText(name, source.name);
        state.replaceChildren(source.http ? badge("ok", "listens") : up(source.up));
        if (source.http) {
          const brokers = (status) => status.sources.reduce((all, other) => all + other.pushes_total, 0);
          setText(pushes, `${rate(history.rate((status) => status.pushes.accepted_total - brokers(status)))}/s`);
          for (const cell of [malformed, lag]) setText(cell, "–");
          return;
        }
        const now = (status) => status.sources.find((other) => other.name === source.name);
        setText(pushes, `${rate(history.rate((status) => now(status)?.pushes_total))}/s`);
        setText(malformed, count(source.malformed_total));
        malformed.dataset.state = source.malformed_total > 0 ? "bad" : "";
        setText(lag, count(source.lag));
      },
    );
  }

  #gateway(status) {
    const { process, connections, pushes, traces } = status;
    const codes = Object.entries(connections.closed_total).map(([code, n]) => `${code} × ${compact(n)}`);
    const lost = sum(pushes.dropped_total);
    facts(byId("facts"), [
      ["Node", status.node_id],
      ["Version", status.version],
      ["Up for", `${duration(status.uptime_seconds)}, since ${time(status.started_at)}`],
      ["Memory", process.resident_bytes === null ? null : bytes(process.resident_bytes)],
      ["Open files", process.open_fds === null ? null : `${count(process.open_fds)} of ${compact(process.max_fds)}`],
      ["Connections", `${count(connections.opened_total)} since the start${codes.length > 0 ? `; closed ${codes.join(", ")}` : ""}`],
      ["Pushes waiting", count(pushes.waiting)],
      ["Pushes lost", lost > 0 ? `${count(lost)}: ${reasons(pushes.dropped_total)}` : "none"],
      ["Rate limited", plural(status.messages.rate_limited_total, "message")],
      ["Traces", traces.exporter === "none" ? "not exported" : `${traces.exporter}: ${count(traces.exported_total)} exported, ${count(traces.dropped_total)} dropped`],
    ]);
  }
}

const up = (value, note) => {
  if (note) return badge("wait", note);
  if (value === null || value === undefined) return badge("wait", "unknown");
  return value ? badge("ok", "up") : badge("bad", "down");
};

const bound = (seconds) => (seconds === Infinity ? "over 60 s" : duration(seconds));

const reasons = (totals) =>
  Object.entries(totals)
    .map(([reason, n]) => `${reason.replaceAll("_", " ")} ${compact(n)}`)
    .join(", ");

function fillBuffer(cell, sink) {
  const { buffered_events: events, buffer_limit_events: limit } = sink;
  if (!cell.firstElementChild) {
    cell.append(el("meter", { min: 0, "aria-label": `Buffer of ${sink.name}` }), el("span"));
  }
  const [meter, text] = cell.children;
  meter.hidden = limit === null;
  if (limit !== null) Object.assign(meter, { max: limit, low: limit * 0.5, high: limit * 0.8, optimum: 0, value: events });
  setText(text, limit === null ? count(events) : `${count(events)} of ${compact(limit)}`);
  text.title = bytes(sink.buffered_bytes);
}
