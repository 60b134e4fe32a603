// What the gateway answered in the last quarter of an hour, and what can be read from two answers.

const KEPT_MS = 15 * 60_000;
const WINDOW_MS = 60_000;

const sum = (counts) => Object.values(counts ?? {}).reduce((all, one) => all + one, 0);
const total = (list, pick) => list.reduce((all, one) => all + (pick(one) ?? 0), 0);

/** Keeps samples for the charts, and whole answers for the last minute. */
export class History {
  samples = [];
  answers = [];

  /** Adds an answer; says what is new about it: nothing, another process, or another gateway. */
  add(status, at = Date.now()) {
    const before = this.answers.at(-1)?.status;
    let change = "";
    if (before && before.node_id !== status.node_id) change = "node";
    else if (before && before.started_at !== status.started_at) change = "restart";
    if (change) this.answers = [];
    this.answers.push({ at, status });
    while (this.answers[0].at < at - WINDOW_MS) this.answers.shift();
    if (change === "node") this.samples = [];
    this.samples.push(this.#sample(status, at, change ? undefined : before));
    while (this.samples[0].at < at - KEPT_MS) this.samples.shift();
    return change;
  }

  #sample(status, at, before) {
    const per = (pick) => {
      const seconds = before ? status.uptime_seconds - before.uptime_seconds : 0;
      return seconds > 0 ? Math.max(0, pick(status) - pick(before)) / seconds : null;
    };
    return {
      at,
      open: status.connections.open,
      messages: per((s) => s.messages.received_total),
      events: per((s) => total(s.sinks, (sink) => sink.delivered_total)),
      pushes: per((s) => s.pushes.queued_total),
      buffered: total(status.sinks, (sink) => sink.buffered_events),
      cpu: status.process.cpu_seconds === null ? null : per((s) => s.process.cpu_seconds * 100),
      memory: status.process.resident_bytes,
    };
  }

  /** A count's rate over the last ten seconds or so; null while there is only one answer. */
  rate(pick) {
    const [first, last] = [this.answers.at(-6) ?? this.answers[0], this.answers.at(-1)];
    const seconds = last.status.uptime_seconds - first.status.uptime_seconds;
    const [from, to] = [pick(first.status), pick(last.status)];
    if (seconds <= 0 || from === undefined || to === undefined || from === null || to === null) return null;
    return Math.max(0, to - from) / seconds;
  }

  /** Quantiles of what was timed in the last minute; null if nothing was. */
  quantiles(pick, ...shares) {
    const [first, last] = [pick(this.answers[0].status), pick(this.answers.at(-1).status)];
    if (!last) return null;
    const before = new Map(first?.buckets ?? []);
    // With one answer alone, what was counted since the start is better than nothing.
    const whole = this.answers.length === 1;
    const counts = last.buckets.map(([bound, n]) => [bound, n - (whole ? 0 : (before.get(bound) ?? 0))]);
    const all = last.count - (whole ? 0 : (first?.count ?? 0));
    return all > 0 ? shares.map((share) => quantile(counts, all, share)) : null;
  }
}

/** The value below which a share lies, by cumulative buckets; Infinity beyond the last one. */
export function quantile(buckets, all, share) {
  const rank = all * share;
  let [low, under] = [0, 0];
  for (const [bound, n] of buckets) {
    if (n >= rank) return n === under ? bound : low + ((bound - low) * (rank - under)) / (n - under);
    [low, under] = [bound, n];
  }
  return Infinity;
}

export { sum, total };
