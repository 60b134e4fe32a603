// Follows one user, live.

import { follow, Refused, told } from "./api.js";
import { byId, bytes, count, el, indented, setText, time } from "./dom.js";

const KEPT = 500;
const AGAIN_MS = 2_000;

export class LiveTail {
  constructor() {
    this.following = null;
    this.missed = 0;
    byId("tail-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.stop();
      this.#start(byId("tail-user").value.trim());
    });
    byId("tail-stop").addEventListener("click", () => {
      this.stop();
      this.#tell("", "Stopped.");
      byId("tail-start").focus();
    });
    byId("tail-clear").addEventListener("click", () => byId("tail-log").replaceChildren());
  }

  /** Ends what is being followed, if anything is. */
  stop() {
    this.following?.abort();
    this.following = null;
    byId("tail-stop").disabled = true;
  }

  async #start(user) {
    if (!user) return;
    const following = new AbortController();
    this.following = following;
    this.missed = 0;
    byId("tail-stop").disabled = false;
    while (this.following === following) {
      let why = "The gateway ended it.";
      try {
        this.#tell("", `Connecting to follow ${user}…`);
        await follow("tail", { user_id: user }, following.signal, (name, data) => this.#told(user, name, JSON.parse(data)));
      } catch (error) {
        if (this.following !== following) return;
        if (error instanceof Refused) {
          this.stop();
          this.#tell("bad", error.message);
          return;
        }
        why = told(error);
      }
      if (this.following !== following) return;
      this.#tell("bad", `${why} Trying again…`);
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }

  #told(user, name, data) {
    if (name === "open") {
      this.mode = data.mode;
      const hidden = data.mode === "full" ? "" : " Payloads are not shown: admin.tail is metadata.";
      this.#tell("ok", `Following ${user}.${hidden}`);
      return;
    }
    if (name === "missed") {
      this.missed += data.count;
      this.#add(el("li", { class: "missed" }, `Too fast for this page: ${count(data.count)} not shown. The gateway lost none.`));
      return;
    }
    const pushed = name === "push";
    const detail = pushed ? data.push : data.event;
    const kind = pushed ? (data.queued ? "push" : "push dropped") : data.type.replace("_", " ");
    const line = [
      el("span", { class: "at" }, time(data.at)),
      el("span", { class: "kind" }, kind),
      el("span", { class: "mono id", title: data.connection_id }, `…${data.connection_id.slice(-8)}`),
      el("span", { class: "muted seq" }, pushed ? "" : `seq ${data.seq}`),
      el("span", { class: "muted size" }, bytes(data.bytes)),
    ];
    const item = el("li", { "data-kind": pushed ? (data.queued ? "push" : "dropped") : data.type });
    if (detail === undefined) item.append(...line);
    else {
      const pre = el("pre", { class: "code", tabIndex: 0, "aria-label": "As JSON" });
      const details = el("details", {}, el("summary", {}, ...line), pre);
      details.addEventListener("toggle", () => (pre.textContent = indented(JSON.stringify(detail))));
      item.append(details);
    }
    this.#add(item);
  }

  #add(item) {
    const log = byId("tail-log");
    log.prepend(item);
    while (log.children.length > KEPT) log.lastElementChild.remove();
  }

  #tell(state, text) {
    byId("tail-result").dataset.state = state;
    setText(byId("tail-result"), text);
  }
}
