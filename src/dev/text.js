// What the page writes: elements, times, and JSON as it came, indented and coloured.

/** Makes an element; a property named `class`, `data-…` or `aria-…` becomes an attribute. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class" || name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const clock = (at = new Date()) => clockFormat.format(at);

/** Microseconds with as many digits as mean something. */
export function micros(value) {
  if (value >= 10_000) return `${(value / 1000).toFixed(0)} ms`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} ms`;
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} µs`;
}

export const shortened = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/**
 * Indents JSON text and colours it. Works on the text itself, since parsing it would change what it shows:
 * numbers have to stay as the sender wrote them.
 */
export function prettyJson(text) {
  const out = document.createDocumentFragment();
  const tokens = text.match(TOKEN) ?? [];
  let depth = 0;
  const line = () => out.append(`\n${"  ".repeat(depth)}`);
  tokens.forEach((token, at) => {
    const next = tokens[at + 1];
    if (token === "{" || token === "[") {
      out.append(token);
      if (next !== "}" && next !== "]") {
        depth += 1;
        line();
      }
    } else if (token === "}" || token === "]") {
      const before = tokens[at - 1];
      if (before !== "{" && before !== "[") {
        depth -= 1;
        line();
      }
      out.append(token);
    } else if (token === ",") {
      out.append(token);
      line();
    } else if (token === ":") {
      out.append(": ");
    } else {
      const kind = token[0] === '"' ? (next === ":" ? "k" : "s") : /^[-\d]/.test(token) ? "n" : "w";
      out.append(el("span", { class: kind }, token));
    }
  });
  return out;
}

/** Colours the comments and keys of YAML. */
export function prettyYaml(text) {
  const out = document.createDocumentFragment();
  for (const line of text.trimEnd().split("\n")) {
    const parts = /^(\s*(?:- )?)([a-z_]+:)?(.*)$/.exec(line);
    if (/^\s*#/.test(line)) out.append(el("span", { class: "c" }, line));
    else out.append(parts[1], el("span", { class: "k" }, parts[2] ?? ""), parts[3]);
    out.append("\n");
  }
  return out;
}

/** A text as one word of a POSIX shell. */
export const shellWord = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Adds an item to a list that keeps only so many. */
export function bounded(list, item, most, { atTop = false } = {}) {
  if (atTop) list.prepend(item);
  else list.append(item);
  while (list.children.length > most) (atTop ? list.lastElementChild : list.firstElementChild).remove();
}
