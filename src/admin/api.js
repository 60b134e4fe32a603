// Calls the gateway with the operator's key, which is kept in this tab alone.

const KEY = "wsgw-operator-key";
const PATIENCE = 10_000;

/** The gateway answered, and not with what was asked for. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

async function ask(path, { method = "GET", body, signal, query } = {}) {
  const search = query ? `?${new URLSearchParams(query)}` : "";
  const response = await fetch(`api/${path}${search}`, {
    method,
    headers: { "X-API-Key": key.get() ?? "", ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    signal,
  });
  if (response.ok) return response;
  let detail = `HTTP ${response.status}`;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // A proxy's own page says no more than its status.
  }
  throw new Refused(response.status, detail);
}

/** Calls and gives the JSON of the answer. */
export async function call(path, options = {}) {
  const response = await ask(path, { signal: AbortSignal.timeout(options.patience ?? PATIENCE), ...options });
  return response.json();
}

/** An image of the gateway, as an address that the page may show. */
export async function image(path, query) {
  const response = await ask(path, { query, signal: AbortSignal.timeout(PATIENCE) });
  return URL.createObjectURL(await response.blob());
}

/**
 * Follows server-sent events until they end; the browser's own reader cannot send a key.
 * Calls `tell` with each one's name and data.
 */
export async function follow(path, query, signal, tell) {
  const response = await ask(path, { query, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      let name = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      }
      if (data.length > 0) tell(name, data.join("\n"));
    }
  }
}

/** What went wrong, for a person. */
export function told(error) {
  if (error instanceof Refused) return error.message;
  if (error.name === "TimeoutError") return "The gateway did not answer in time.";
  return "The gateway cannot be reached.";
}
