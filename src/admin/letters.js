// Dead letters: how many there are, what they are, and a second try.

import { call, told } from "./api.js";
import { confirm } from "./confirm.js";
import { byId, bytes, count, el, indented, plural, setText, sync, time, timeElement } from "./dom.js";

const STORES = {
  redis: { name: "Redis", replays: true },
  rabbitmq: { name: "RabbitMQ", replays: true },
  file: { name: "File", replays: false },
};
/** A replay may wait for another one, and for the broker. */
const REPLAY_PATIENCE = 60_000;

export class Letters {
  constructor() {
    this.listed = false;
    byId("letters-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.list();
    });
  }

  opened() {
    if (!this.listed) this.list();
  }

  /** Shows how many wait in each store, as far as that is known. */
  show(status) {
    const depths = Object.keys(STORES).map((store) => [store, status.dead_letters[store] ?? null]);
    const known = depths.filter(([, depth]) => depth !== null);
    const all = known.reduce((sum, [, depth]) => sum + depth, 0);
    const badge = byId("letters-count");
    badge.hidden = all === 0;
    setText(badge, count(all));
    sync(byId("stores"), depths, ([store]) => store, ([store]) => this.#store(store), (child, [store, depth]) => {
      setText(child.querySelector(".value"), depth === null ? "–" : count(depth));
      child.dataset.state = depth > 0 ? "bad" : "";
      const configured = depth !== null || !STORES[store].replays || store in status.checks;
      setText(child.querySelector(".note"), configured ? waits(depth) : "not configured");
      for (const button of child.querySelectorAll("button")) button.hidden = !configured;
    });
    const select = byId("letters-sink");
    const sinks = ["", ...new Set(status.sinks.map((sink) => sink.name))];
    if (sinks.length !== select.options.length) {
      const chosen = select.value;
      select.replaceChildren(...sinks.map((sink) => el("option", { value: sink }, sink || "all")));
      select.value = sinks.includes(chosen) ? chosen : "";
    }
  }

  #store(store) {
    const { name, replays } = STORES[store];
    const note = el("span", { class: "muted note" });
    const tile = el("li", { class: "tile store" }, el("span", { class: "name" }, name), el("div", { class: "figures" }, el("strong", { class: "value" }), note));
    if (replays) {
      const button = el("button", { type: "button", "aria-label": `Replay from ${name}` }, "Replay…");
      button.addEventListener("click", () => this.#replay(store, name));
      tile.append(button);
    } else {
      tile.append(el("span", { class: "hint" }, "replayed by wsgw replay"));
    }
    return tile;
  }

  async list() {
    this.listed = true;
    const query = { limit: byId("letters-limit").value };
    const sink = byId("letters-sink").value;
    if (sink) query.sink = sink;
    try {
      const { dead_letters: letters, unavailable = [] } = await call("dead-letters", { query });
      byId("letters-rows").replaceChildren(...letters.flatMap((letter, at) => rows(letter, at)));
      byId("letters-table").hidden = letters.length === 0;
      const away = unavailable.length > 0 ? ` Not answering: ${unavailable.join(", ")}.` : "";
      const found = letters.length > 0 ? `${plural(letters.length, "letter")}, as of ${time(Date.now())}.` : "There are none.";
      this.#tell(away ? "bad" : "", found + away);
    } catch (error) {
      this.#tell("bad", told(error));
    }
  }

  async #replay(store, name) {
    const limit = await confirm({
      title: `Replay from ${name}?`,
      text: "The oldest letters are moved back to where they are worked on, each only once its copy is safe there. The backend will see these events again.",
      ok: "Replay",
      field: { label: "At most", properties: { type: "number", min: "1", max: "10000", value: "100", required: true } },
    });
    if (limit === null) return;
    this.#tell("", `Replaying from ${name}…`);
    let outcome;
    try {
      const { replayed, refused = 0 } = await call(`replay/${store}`, {
        method: "POST",
        body: { limit: Number(limit) },
        patience: REPLAY_PATIENCE,
      });
      outcome = ["ok", `${plural(replayed, "letter")} replayed from ${name}${refused > 0 ? `, ${count(refused)} refused` : ""}.`];
    } catch (error) {
      outcome = ["bad", `Replay from ${name}: ${told(error)}`];
    }
    await this.list();
    this.#tell(...outcome);
  }

  #tell(state, text) {
    byId("letters-result").dataset.state = state;
    setText(byId("letters-result"), text);
  }
}

const waits = (depth) => (depth === null ? "not known" : depth === 1 ? "letter waits" : "letters wait");

/** A letter's row, and the one below it for what was to be delivered. */
function rows(letter, at) {
  const id = `payload-${at}`;
  const button = el("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": id }, "Show payload");
  const pre = el("pre", { class: "code", tabIndex: 0, "aria-label": "What was to be delivered" });
  const below = el("tr", { id, class: "payload", hidden: true }, el("td", { colspan: 7 }, pre));
  button.addEventListener("click", () => {
    below.hidden = !below.hidden;
    button.setAttribute("aria-expanded", String(!below.hidden));
    setText(button, below.hidden ? "Show payload" : "Hide payload");
    // Not in the page before it was asked for.
    pre.textContent = below.hidden ? "" : indented(letter.raw);
  });
  const given = letter.failed_at === undefined ? "unknown" : timeElement(letter.failed_at * 1000);
  const main = el(
    "tr",
    {},
    el("th", { scope: "row" }, given),
    el("td", {}, letter.store),
    el("td", {}, letter.sink ?? "–"),
    el("td", { class: "reason" }, letter.reason),
    el("td", { class: "mono" }, letter.event_id ?? "–"),
    el("td", { class: "n" }, bytes(new Blob([letter.raw]).size)),
    el("td", { class: "n" }, button),
  );
  return [main, below];
}
