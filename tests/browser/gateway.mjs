// A real gateway with a Redis and a webhook of its own, for tests that look at the operator's page.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac, randomInt } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
export const ROOT = resolve(HERE, "../..");
export const WSGW = process.env.WSGW_BIN ?? join(ROOT, "target/debug/wsgw");
export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const JWT_KEY = "an-hmac-key-for-the-browser-tests";

export const KEYS = { gateway: "gateway-key-canary-7f31c2", operator: "operator-key-canary-90ab44" };

/** Fails, rather than skips, where something is missing: a test that does not run must not look like one that does. */
export async function needs() {
  assert.ok(existsSync(WSGW), `no binary at ${WSGW}: run cargo build first, or set WSGW_BIN`);
  assert.ok(
    existsSync(CHROMIUM),
    `no Chromium at ${CHROMIUM}: apt-get install -y chromium, or set CHROMIUM to a Chrome or Chromium`,
  );
  try {
    return (await import("playwright-core")).chromium;
  } catch {
    assert.fail("playwright-core is not installed: run npm --prefix tests/browser ci");
  }
}

/** Polls until something is so. */
export async function eventually(what, look, patience = 10_000) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `not so within ${patience} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 25));
  }
}

/** A port that nobody listens on. Not an ephemeral one: any connection may be given that before the server binds it. */
export async function freePort() {
  for (let tries = 0; tries < 200; tries += 1) {
    const port = randomInt(20_000, 32_000);
    const isFree = await new Promise((done) => {
      const server = createTcpServer().once("error", () => done(false));
      server.listen(port, "127.0.0.1", () => server.close(() => done(true)));
    });
    if (isFree) return port;
  }
  throw new Error("no free port between 20000 and 32000");
}

const answers = (port) =>
  new Promise((done) => {
    const socket = connect(port, "127.0.0.1", () => done(true)).once("error", () => done(false));
    socket.once("connect", () => socket.end());
  });

/** A token of a user, with further subjects. */
export function token(user, subjects = []) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ user_id: user, subjects, exp })}`;
  return `${text}.${createHmac("sha256", JWT_KEY).update(text).digest("base64url")}`;
}

const pipeline = ({ redis, webhook, publicPort, internalPort, more = "", perSecond = 100 }) => `snoke_ws:
  server: { listen: "127.0.0.1:${publicPort}", internal_listen: "127.0.0.1:${internalPort}", node_id: gateway-a, api_key: ${KEYS.gateway}, drain_seconds: 0.2 }
  admin: { enabled: true, api_key: ${KEYS.operator}, tail: full }
  transport: { redis_stream: { dsn: "redis://127.0.0.1:${redis}/0" } }
  events:
    redis_stream: { dsn: "redis://127.0.0.1:${redis}/0" }
    webhook: { url: "http://127.0.0.1:${webhook}/webhook", retry_attempts: 1 }
  stages:
    - auth: { jwt: { algorithm: HS256, public_key: "${JWT_KEY}" } }
    - ping_filter: {}
    - rate_limit: { per_second: ${perSecond}, burst: 200 }
    - ordering_key: { strategy: topic, when: { type: [chat] } }
    - fan_out: { events_mode: both }
${more}`;

/** Everything that a gateway needs, and the gateway. */
export class Scene {
  children = [];
  received = [];

  static async start() {
    const scene = new Scene();
    scene.folder = mkdtempSync(join(tmpdir(), "wsgw-admin-"));
    scene.redisPort = await freePort();
    scene.#spawn("redis-server", ["--port", scene.redisPort, "--bind", "127.0.0.1", "--save", "", "--dir", scene.folder]);
    await eventually("Redis answers", () => answers(scene.redisPort));
    // What says so is refused, and becomes a dead letter.
    scene.webhook = createServer((request, response) => {
      let body = "";
      request.on("data", (part) => (body += part));
      request.on("end", () => {
        scene.received.push(JSON.parse(body));
        response.writeHead(body.includes("refuse me") ? 400 : 204).end();
      });
    });
    await new Promise((done) => scene.webhook.listen(0, "127.0.0.1", done));
    scene.ports = { publicPort: await freePort(), internalPort: await freePort() };
    scene.file = join(scene.folder, "pipeline.yaml");
    scene.configure();
    await scene.startGateway();
    return scene;
  }

  /** Writes the pipeline file. */
  configure(options = {}) {
    const text = pipeline({ redis: this.redisPort, webhook: this.webhook.address().port, ...this.ports, ...options });
    writeFileSync(this.file, text);
  }

  async startGateway() {
    this.gateway = this.#spawn(WSGW, ["run", this.file]);
    await eventually("the gateway is ready", async () => {
      assert.equal(this.gateway.exitCode, null, this.gateway.log);
      return (await this.get("/ready").catch(() => null))?.ok;
    });
  }

  async stopGateway() {
    this.gateway.kill("SIGKILL");
    await this.gateway.exited;
  }

  /** Has the gateway read its file again, and waits until that is told. */
  async reload() {
    const before = (await this.status()).reloads.length;
    this.gateway.kill("SIGHUP");
    await eventually("the reload is told", async () => (await this.status()).reloads.length > before);
  }

  get(path, key = KEYS.gateway, options = {}) {
    return fetch(`${this.internal}${path}`, { ...options, headers: { "X-API-Key": key } });
  }

  async status() {
    return (await this.get("/internal/status")).json();
  }

  publish(subjects, payload) {
    return this.get("/internal/publish", KEYS.gateway, { method: "POST", body: JSON.stringify({ subjects, payload }) });
  }

  get internal() {
    return `http://127.0.0.1:${this.ports.internalPort}`;
  }

  get page() {
    return `${this.internal}/admin/`;
  }

  socket(user, subjects) {
    return `ws://127.0.0.1:${this.ports.publicPort}/ws?token=${token(user, subjects)}`;
  }

  #spawn(command, args) {
    const env = { ...process.env, http_proxy: "", https_proxy: "" };
    const child = spawn(command, args.map(String), { stdio: ["ignore", "pipe", "pipe"], cwd: this.folder, env });
    child.log = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (child.log += part));
    child.exited = new Promise((done) => child.once("exit", done));
    this.children.push(child);
    return child;
  }

  async stop() {
    for (const child of this.children) child.kill("SIGKILL");
    await Promise.all(this.children.map((child) => child.exited));
    this.webhook?.closeAllConnections();
    this.webhook?.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
