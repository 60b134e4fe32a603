// What is in force, how it came to be, and what is logged.

import { call, image, Refused, told } from "./api.js";
import { badge, byId, duration, el, facts, plural, setText, sync, time, timeElement } from "./dom.js";

export class Configuration {
  constructor() {
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => this.#draw());
    byId("log-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#setLevel();
    });
  }

  opened() {
    this.isOpen = true;
    this.#draw();
    this.#level();
  }

  left() {
    this.isOpen = false;
  }

  show({ pipeline, reloads }) {
    facts(byId("config-facts"), [
      ["File", pipeline.file ?? "none"],
      ["Mode", pipeline.mode],
      ["Generation", `${pipeline.generation}, since ${time(pipeline.loaded_at)}`],
      ["Hash", pipeline.hash],
      ["Stages", pipeline.stages.map(({ name }) => name).join(" → ")],
    ]);
    byId("no-reloads").hidden = reloads.length > 0;
    sync(byId("reloads"), reloads, (reload) => `${reload.at} ${reload.generation}`, reloaded, () => {});
    if (this.drawn !== pipeline.hash && this.isOpen) this.#draw(pipeline.hash);
  }

  async #draw(hash = this.drawn) {
    if (!this.isOpen) return;
    this.drawn = hash;
    try {
      const source = await image("pipeline.svg", { theme: this.dark.matches ? "dark" : "light" });
      const picture = el("img", { alt: "The pipeline in force, from the clients to the sinks" });
      // The image is complete once it is loaded; the address is needed no more.
      picture.addEventListener("load", () => URL.revokeObjectURL(source));
      picture.src = source;
      byId("picture").replaceChildren(picture);
    } catch (error) {
      this.drawn = undefined;
      byId("picture").replaceChildren(el("p", { class: "hint" }, `No picture: ${told(error)}`));
    }
  }

  async #level() {
    try {
      const { level, for_seconds: left } = await call("log-level");
      byId("log-level").hidden = false;
      if (document.activeElement !== byId("log-filter")) byId("log-filter").value = level;
      setText(byId("log-result"), left ? `${level} for another ${duration(left)}.` : "");
    } catch (error) {
      byId("log-level").hidden = error instanceof Refused && error.status === 404;
    }
  }

  async #setLevel() {
    const seconds = Number(byId("log-for").value);
    const result = byId("log-result");
    try {
      const body = { level: byId("log-filter").value.trim(), ...(seconds && { for_seconds: seconds }) };
      const { level } = await call("log-level", { method: "PUT", body });
      result.dataset.state = "ok";
      setText(result, `Set to ${level ?? body.level}${seconds ? ` for ${duration(seconds)}` : ""}.`);
    } catch (error) {
      result.dataset.state = "bad";
      setText(result, told(error));
    }
  }
}

function reloaded(reload) {
  const good = reload.result === "success";
  const head = el(
    "div",
    { class: "reload-head" },
    badge(good ? "ok" : "bad", good ? `generation ${reload.generation}` : "refused"),
    timeElement(reload.at),
    el("span", { class: "muted" }, `took ${duration(reload.seconds)}`),
  );
  const list = (title, items) => [el("p", { class: "hint" }, title), el("ul", {}, ...items.map((item) => el("li", { class: "mono" }, item)))];
  const item = el("li", {}, head);
  if (!good) item.append(...list(`The one before stayed in force. ${plural(reload.errors.length, "problem")}:`, reload.errors));
  else if (reload.changed.length === 0) item.append(el("p", { class: "hint" }, "Nothing changed."));
  else item.append(...list("Changed:", reload.changed));
  if (reload.waits_for_restart.length > 0) item.append(...list("Waits for a restart:", reload.waits_for_restart));
  return item;
}
