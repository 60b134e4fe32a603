// What the page writes: elements, numbers, times.

export const byId = (id) => document.getElementById(id);

/** Makes an element; a property named `class`, `data-…` or `aria-…` becomes an attribute. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name === "class" || name.includes("-") || name === "colspan" || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** The same for SVG, where everything is an attribute. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Sets a text only where it differs, so that a selection of it stays. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Brings the children of a list in line with items: those that stay are changed in place, so that focus and selection
 * survive the next answer. `make` gives an element, `update` fills it.
 */
export function sync(list, items, key, make, update) {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, at) => {
    const name = String(key(item));
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    if (list.children[at] !== child) list.insertBefore(child, list.children[at] ?? null);
    update(child, item, at);
  });
  for (const gone of known.values()) gone.remove();
}

/** Makes the cells of a row, the first of them its heading; classes are given as `"text.n"`. */
export function row(...cells) {
  const made = cells.map((kind, at) =>
    at === 0 ? el("th", { scope: "row", class: kind }) : el("td", { class: kind }),
  );
  return el("tr", {}, ...made);
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A count, or a dash where it is not known. */
export const count = (value) => (value === null || value === undefined ? "–" : whole.format(value));

/** A count in few characters. */
export const compact = (value) => (value >= 10_000 ? short.format(value) : whole.format(value));

/** A rate with as many digits as mean something. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 10) return value.toFixed(value < 0.095 ? 2 : 1);
  return compact(value);
}

/** Bytes with a unit. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${units[at]}`;
}

/** Seconds as people say them, from nanoseconds to days. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 s";
  const digits = (value) => (value >= 99.5 ? value.toFixed(0) : value.toPrecision(2));
  if (seconds < 1e-6) return `${digits(seconds * 1e9)} ns`;
  if (seconds < 1e-3) return `${digits(seconds * 1e6)} µs`;
  if (seconds < 1) return `${digits(seconds * 1e3)} ms`;
  if (seconds < 60) return `${digits(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days ${hours % 24} h`;
}

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** The time of day; the day too, unless it is today. */
export function time(at) {
  const date = new Date(at);
  const clock = clockFormat.format(date);
  return date.toDateString() === new Date().toDateString() ? clock : `${dayFormat.format(date)}, ${clock}`;
}

/** A time element, for a date or milliseconds. */
export function timeElement(at) {
  const date = new Date(at);
  return el("time", { dateTime: date.toISOString(), title: date.toISOString() }, time(date));
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** A state in words, with a sign so that colour is not all. */
export function badge(state, text) {
  return el("span", { class: "badge", "data-state": state }, text);
}

/** Makes rows of facts: a term, and what stands for it. */
export function facts(list, entries) {
  sync(
    list,
    entries.filter(([, value]) => value !== null && value !== undefined && value !== ""),
    ([term]) => term,
    ([term]) => el("div", {}, el("dt", {}, term), el("dd")),
    (child, [, value]) => setText(child.lastElementChild, String(value)),
  );
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** Indents JSON text as it was written; what is no JSON stays as it is. */
export function indented(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  const tokens = text.match(TOKEN) ?? [];
  let depth = 0;
  let out = "";
  tokens.forEach((token, at) => {
    const [before, next] = [tokens[at - 1], tokens[at + 1]];
    if (token === "{" || token === "[") {
      out += token;
      if (next !== "}" && next !== "]") out += `\n${"  ".repeat(++depth)}`;
    } else if (token === "}" || token === "]") {
      if (before !== "{" && before !== "[") out += `\n${"  ".repeat(--depth)}`;
      out += token;
    } else if (token === ",") out += `,\n${"  ".repeat(depth)}`;
    else out += token === ":" ? ": " : token;
  });
  return out;
}
