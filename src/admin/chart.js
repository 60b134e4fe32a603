// A small chart of one number over the last quarter of an hour.

import { el, setText, svg, time } from "./dom.js";

const SPAN_MS = 15 * 60_000;
const WIDTH = 300;
const HEIGHT = 56;
/** Longer without a sample, and the line is broken: nobody knows what was in between. */
const GAP_MS = 9_000;

/** The next larger of 1, 2, 5, 10, … */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}

export class Chart {
  constructor(name, field, format) {
    Object.assign(this, { name, field, format, samples: [] });
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line" });
    this.cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.picture = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", class: "chart" },
      this.area,
      this.line,
      this.cursor,
    );
    this.value = el("strong", { class: "value" }, "–");
    this.note = el("span", { class: "muted note" });
    this.element = el(
      "li",
      { class: "tile" },
      el("span", { class: "name" }, name),
      el("div", { class: "figures" }, this.value, this.note),
      this.picture,
    );
    this.picture.addEventListener("pointermove", (event) => this.#point(event));
    this.picture.addEventListener("pointerleave", () => {
      this.cursor.setAttribute("visibility", "hidden");
      this.#show();
    });
  }

  draw(samples, now = Date.now()) {
    this.samples = samples.filter((sample) => sample[this.field] !== null);
    this.start = now - SPAN_MS;
    this.most = Math.max(0, ...this.samples.map((sample) => sample[this.field]));
    const top = this.most > 0 ? ceiling(this.most) : 1;
    const x = (at) => (((at - this.start) / SPAN_MS) * WIDTH).toFixed(1);
    const y = (value) => (HEIGHT - 1 - (value / top) * (HEIGHT - 4)).toFixed(1);
    let [line, area, last] = ["", "", null];
    for (const sample of this.samples) {
      const point = `${x(sample.at)} ${y(sample[this.field])}`;
      if (last && sample.at - last.at <= GAP_MS) {
        line += `L${point}`;
        area += `L${point}`;
      } else {
        if (last) area += `L${x(last.at)} ${HEIGHT}Z`;
        line += `M${point}`;
        area += `M${x(sample.at)} ${HEIGHT}L${point}`;
      }
      last = sample;
    }
    if (last) area += `L${x(last.at)} ${HEIGHT}Z`;
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
    if (this.cursor.getAttribute("visibility") === "hidden") this.#show();
  }

  #show() {
    const last = this.samples.at(-1);
    setText(this.value, last ? this.format(last[this.field]) : "–");
    const note = last ? `max ${this.format(this.most)}` : "";
    setText(this.note, note);
    this.picture.setAttribute("aria-label", `${this.name}: ${this.value.textContent}, in the last 15 minutes ${note || "unknown"}`);
  }

  #point(event) {
    if (this.samples.length === 0) return;
    const box = this.picture.getBoundingClientRect();
    const at = this.start + ((event.clientX - box.left) / box.width) * SPAN_MS;
    const away = (sample) => Math.abs(sample.at - at);
    const nearest = this.samples.reduce((best, sample) => (away(sample) < away(best) ? sample : best));
    const x = ((nearest.at - this.start) / SPAN_MS) * WIDTH;
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.cursor.setAttribute("visibility", "visible");
    setText(this.value, this.format(nearest[this.field]));
    setText(this.note, `at ${time(nearest.at)}`);
  }
}
