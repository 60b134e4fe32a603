// A connection to the gateway that comes back by itself.
//
// It waits longer after each failure, by chance between half and all of it, so that many clients do not come back at
// once; it does as the gateway asks by {"type":"reconnect","after_ms":…}; it pings, since a dead network says nothing;
// and it renews its token before that ends.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;
const PING_EVERY = 20_000;
const PONG_WITHIN = 10_000;

/** Milliseconds before the try that follows so many failures. */
export function backOff(failures, random = Math.random) {
  const whole = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(failures, 10));
  return whole / 2 + (whole / 2) * random();
}

/** What the token says of its end, in milliseconds; none if it says nothing. */
function endOf(token) {
  try {
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return claims.exp ? claims.exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

export class Connection extends EventTarget {
  /**
   * Events: `state` (detail: "live", "wait" or "lost", and a text), `push` (detail: the payload).
   *
   * @param {string} url
   * @param {string} token
   * @param {() => Promise<string>} renew gives a fresh token
   */
  constructor(url, token, renew) {
    super();
    this.url = url;
    this.token = token;
    this.renew = renew;
    this.failures = 0;
    // Waiting is over as soon as the machine has a network again.
    addEventListener("online", () => this.#waiting && this.#open());
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && this.open());
  }

  #socket;
  #waiting;
  #pings;
  #pong;
  #renewal;
  #asked;
  #ended = false;

  open() {
    this.#ended = false;
    this.#open();
  }

  close() {
    this.#ended = true;
    clearTimeout(this.#waiting);
    this.#socket?.close(1000);
  }

  /** Sends an object; false if there is no connection. */
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  async #open() {
    clearTimeout(this.#waiting);
    this.#waiting = undefined;
    this.#asked = undefined;
    this.#tell("wait", this.failures ? "reconnecting" : "connecting");
    if ((endOf(this.token) ?? Infinity) < Date.now() + 5000 && !(await this.#renewed())) return;
    const socket = new WebSocket(this.url, ["bearer", this.token]);
    this.#socket = socket;
    socket.onopen = () => {
      // It counts as working once it has for a while: one that is closed at once would else be tried without pause.
      this.#renewal = setTimeout(() => this.#renewInPlace(), this.#untilRenewal());
      this.#pings = setInterval(() => this.#ping(), PING_EVERY);
      this.#steady = setTimeout(() => (this.failures = 0), 5000);
      this.#tell("live", "connected");
    };
    socket.onmessage = ({ data }) => this.#take(data);
    socket.onclose = (event) => this.#lost(socket, event);
  }

  #steady;

  #take(data) {
    clearTimeout(this.#pong);
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (message.type === "event") this.dispatchEvent(new CustomEvent("push", { detail: message.payload }));
    if (message.type === "reconnect") {
      // The gateway is about to stop, and spreads its clients over time.
      this.#asked = Math.max(0, Number(message.after_ms) || 0);
      this.#socket.close(1000);
    }
    if (message.type === "rate_limited") this.#tell("live", "too fast: the gateway dropped a message");
    if (message.type === "overloaded") this.#tell("live", "the gateway is overloaded and dropped a message");
  }

  #lost(socket, event) {
    if (socket !== this.#socket) return;
    for (const timer of [this.#renewal, this.#pong, this.#steady]) clearTimeout(timer);
    clearInterval(this.#pings);
    if (this.#ended) return this.#tell("lost", "closed");
    if (event.code === 4403) return this.#tell("lost", `disconnected by the application${event.reason ? `: ${event.reason}` : ""}`);
    const wait = this.#asked ?? backOff(this.failures++);
    this.#tell("lost", `connection lost, next try in ${Math.max(1, Math.round(wait / 1000))} s`);
    this.#waiting = setTimeout(async () => {
      if (event.code !== 4401 || (await this.#renewed())) this.#open();
    }, wait);
  }

  #ping() {
    this.send({ type: "ping" });
    this.#pong = setTimeout(() => {
      // A socket whose network is gone would take minutes to close by itself.
      const socket = this.#socket;
      socket.close();
      this.#lost(socket, { code: 1006, reason: "" });
      this.#socket = undefined;
    }, PONG_WITHIN);
  }

  #untilRenewal() {
    const left = (endOf(this.token) ?? Date.now() + 3_600_000) - Date.now();
    return Math.min(Math.max(left - 60_000, left / 2), 2 ** 31 - 1);
  }

  async #renewInPlace() {
    try {
      this.token = await this.renew();
      this.send({ type: "auth", token: this.token });
      this.#renewal = setTimeout(() => this.#renewInPlace(), this.#untilRenewal());
    } catch {
      this.#renewal = setTimeout(() => this.#renewInPlace(), 10_000);
    }
  }

  /** Fetches a token; tries again later if it cannot. */
  async #renewed() {
    try {
      this.token = await this.renew();
      return true;
    } catch (error) {
      if (error.final) {
        this.#tell("lost", error.message);
      } else {
        this.#waiting = setTimeout(() => this.#open(), backOff(this.failures++));
        this.#tell("lost", "no new token yet");
      }
      return false;
    }
  }

  #tell(state, text) {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, text } }));
  }
}
