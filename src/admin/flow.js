// The pipeline as it stands in the file: what reaches each stage, what ends there, and how long it takes.

import { duration, el, rate, setText, sync } from "./dom.js";

export class Flow {
  constructor(list) {
    this.list = list;
  }

  show(status, history) {
    const stages = status.pipeline.stages.map((stage, at) => ({ ...stage, at }));
    const ends = new Map();
    // A stage that stands twice has one count for both, which is shown with the first.
    const ended = (stage) => {
      if (ends.has(stage.name)) return 0;
      const found = (other) => other.pipeline.stages.find(({ name }) => name === stage.name)?.ended_total;
      const perSecond = history.rate(found);
      ends.set(stage.name, perSecond);
      return perSecond;
    };
    // `connected` and `disconnected` pass the stages as messages do.
    let passing = history.rate((other) => {
      const { opened_total: opened, closed_total: closed } = other.connections;
      return other.messages.received_total + opened + Object.values(closed).reduce((all, n) => all + n, 0);
    });
    const shown = stages.map((stage) => {
      const here = ended(stage);
      const reached = passing;
      if (passing !== null && here !== null) passing = Math.max(0, passing - here);
      return { ...stage, reached, here };
    });
    const sinks = status.sinks.filter((sink) => sink.configured);
    const items = [
      { kind: "end", key: "clients", name: "Clients", note: `${status.connections.open} open` },
      ...shown.map((stage) => ({ kind: "stage", key: `${stage.at} ${stage.name}`, ...stage })),
      { kind: "end", key: "sinks", name: sinks.length > 0 ? sinks.map(({ name }) => name).join("\n") : "nowhere", note: sinks.length > 1 ? "sinks" : "sink" },
    ];
    sync(this.list, items, (item) => item.key, make, (child, item) => update(child, item, history));
  }
}

function make({ kind }) {
  if (kind === "end") {
    return el("li", { class: "end" }, el("span", { class: "name" }), el("span", { class: "muted" }));
  }
  return el(
    "li",
    { class: "stage" },
    el("span", { class: "name" }),
    el("span", { class: "when muted" }),
    el("span", { class: "reached" }),
    el("span", { class: "ended" }),
    el("span", { class: "took muted" }),
  );
}

function update(child, item, history) {
  if (item.kind === "end") {
    setText(child.children[0], item.name);
    setText(child.children[1], item.note);
    return;
  }
  const [name, when, reached, ended, took] = child.children;
  setText(name, item.name);
  setText(when, item.when ? `when ${item.when}` : "");
  when.title = item.when ?? "";
  setText(reached, `${rate(item.reached)}/s`);
  const ends = item.here !== null && item.here > 0;
  setText(ended, ends ? `${rate(item.here)}/s end here` : "");
  child.dataset.ends = ends;
  const q = history.quantiles(
    (status) => status.pipeline.stages.find((stage) => stage.name === item.name)?.timed,
    0.5,
    0.99,
  );
  setText(took, q ? `p50 ${bound(q[0])}, p99 ${bound(q[1])}` : "not timed yet");
}

const bound = (seconds) => (seconds === Infinity ? "over 1 s" : duration(seconds));
