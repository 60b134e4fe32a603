// The demo's chat in a real browser: two people talk through the real gateway and the real Symfony application, and
// whatever is between them is searched for what they said.
//
//   ./scripts/test.sh php      # or, once Composer has installed symfony/: node --test chat.test.mjs
//
// WSGW_BIN names another gateway, CHROMIUM another browser, SCREENSHOTS a folder for the pictures.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttpServer, request as httpRequest } from "node:http";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { freePort } from "./gateway.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = resolve(HERE, "../..");
const WSGW = process.env.WSGW_BIN ?? join(ROOT, "target/debug/wsgw");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SCREENSHOTS = process.env.SCREENSHOTS ?? join(ROOT, "target/screenshots");
const DEMO_KEY = "a-demo-key-for-the-browser";
const PATIENCE = 15_000;
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function until(what, isSo) {
  const end = Date.now() + PATIENCE;
  while (!(await isSo())) {
    if (Date.now() > end) assert.fail(`waited in vain for ${typeof what === "function" ? what() : what}`);
    await new Promise((done) => setTimeout(done, 30));
  }
}

const accepts = (port) =>
  new Promise((done) => {
    const socket = createConnection(port, "127.0.0.1", () => done(socket.destroy() && true));
    socket.on("error", () => done(false));
  });

/** All that a mode needs, and all that could be overheard. */
class Stack {
  constructor(mode) {
    this.mode = mode;
    this.directory = mkdtempSync(join(tmpdir(), "wsgw-chat-"));
    this.children = [];
    this.overheard = "";
  }

  async start() {
    const [gateway, web, hook, redis] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
    this.redisPort = redis;
    this.gatewayPort = gateway;
    const core = this.mode === "core";
    this.env = {
      ...process.env,
      WSGW_LISTEN: `127.0.0.1:${gateway}`,
      GATEWAY_API_KEY: "a-gateway-key",
      JWT_PUBLIC_KEY_FILE: join(ROOT, "tests/keys/rsa.pub.pem"),
      SYMFONY_WEBHOOK_URL: core ? "" : `http://127.0.0.1:${hook}/internal/ws/events`,
      SYMFONY_WEBHOOK_SECRET: "a-webhook-secret",
      REDIS_DSN: core ? `redis://127.0.0.1:${redis}/0` : "",
      LOG_LEVEL: "trace",
      WS_MODE: this.mode,
      APP_ENV: "dev",
      APP_VAR_DIR: join(this.directory, "var"),
      PHP_CLI_SERVER_WORKERS: "4",
      WS_PUBLIC_URL: `ws://localhost:${gateway}/ws`,
      WS_GATEWAY_BASE_URL: `http://127.0.0.1:${gateway}`,
      WS_GATEWAY_API_KEY: "a-gateway-key",
      WS_REDIS_DSN: `redis://127.0.0.1:${redis}/0`,
      WS_TOKEN_KEY_FILE: join(ROOT, "tests/keys/rsa.pem"),
      DEMO_API_KEY: DEMO_KEY,
      DEMO_INBOX_REDIS_DSN: core ? `redis://127.0.0.1:${redis}/0` : "",
    };
    this.url = `http://localhost:${web}`;
    if (core) {
      this.run("redis-server", ["--bind", "127.0.0.1", "--port", redis, "--save", "", "--appendonly", "no", "--dir", this.directory]);
      await until("Redis", () => accepts(redis));
      // Every command that anybody sends to Redis, with its data.
      this.run("redis-cli", ["-p", redis, "MONITOR"]);
    } else {
      await this.listenIn(hook, web);
    }
    this.startGateway();
    await until("the gateway", () => accepts(gateway));
    const warmed = spawnSync("php", [join(ROOT, "symfony/bin/console"), "cache:warmup"], { env: this.env, encoding: "utf8" });
    assert.equal(warmed.status, 0, warmed.stdout + warmed.stderr);
    const folder = join(ROOT, "symfony/public");
    this.run("php", ["-S", `127.0.0.1:${web}`, "-t", folder, join(folder, "index.php")]);
    await until("the application", () => accepts(web));
    if (core) this.run("php", [join(ROOT, "symfony/bin/console"), "ws:consume", "-vv"]);
  }

  startGateway() {
    this.gateway = this.run(WSGW, ["run", join(ROOT, `pipelines/${this.mode}.yaml`), "--set", "server.drain_seconds=1"]);
  }

  async stopGateway(signal) {
    const ended = new Promise((done) => this.gateway.on("exit", done));
    this.gateway.kill(signal);
    await ended;
  }

  /** Stands between gateway and application, and keeps what passes. */
  async listenIn(port, to) {
    this.proxy = createHttpServer((incoming, answer) => {
      const parts = [];
      incoming.on("data", (part) => parts.push(part));
      incoming.on("end", () => {
        const body = Buffer.concat(parts);
        this.overheard += `${body}\n`;
        const outgoing = httpRequest(
          { host: "127.0.0.1", port: to, path: incoming.url, method: incoming.method, headers: incoming.headers },
          (reply) => {
            answer.writeHead(reply.statusCode, reply.headers);
            reply.pipe(answer);
          },
        );
        outgoing.on("error", () => answer.writeHead(502).end());
        outgoing.end(body);
      });
    });
    await new Promise((done) => this.proxy.listen(port, "127.0.0.1", done));
  }

  /** In a process group of its own: PHP's server has workers. */
  run(command, args) {
    const child = spawn(command, args.map(String), { env: this.env, stdio: ["ignore", "pipe", "pipe"], detached: true });
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (this.overheard += part));
    this.children.push(child);
    return child;
  }

  /** One after the other, the last first: what uses Redis ends before Redis does. */
  async stop() {
    for (const child of this.children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((done) => child.on("exit", done));
      process.kill(-child.pid, "SIGTERM");
      const late = setTimeout(() => process.kill(-child.pid, "SIGKILL"), 8000);
      await ended;
      clearTimeout(late);
    }
    this.proxy?.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

for (const mode of ["terminator", "core"]) {
  describe(`the chat in ${mode} mode`, { timeout: 240_000 }, () => {
    let browser;
    let stack;

    before(async () => {
      assert.ok(existsSync(WSGW), `no binary at ${WSGW}: run cargo build first, or set WSGW_BIN`);
      assert.ok(existsSync(CHROMIUM), `no Chromium at ${CHROMIUM}: apt-get install -y chromium, or set CHROMIUM`);
      assert.ok(existsSync(join(ROOT, "symfony/vendor")), "no symfony/vendor: run ./scripts/test.sh php");
      const { chromium } = await import("playwright-core");
      stack = new Stack(mode);
      await stack.start();
      browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
      mkdirSync(SCREENSHOTS, { recursive: true });
    });

    after(async () => {
      await browser?.close();
      await stack?.stop();
    });

    /** Signs somebody in, in a browser of his own, and fails the test on whatever that complains about. */
    async function enter(t, name, options = {}, allowed = /^$/) {
      const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
      const page = await context.newPage();
      page.setDefaultTimeout(PATIENCE);
      const complaints = [];
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
      t.after(async () => {
        await context.close();
        assert.deepEqual(complaints.filter((complaint) => !allowed.test(complaint)), []);
      });
      await page.goto(`${stack.url}/demo/chat`);
      await page.getByLabel("Your name").fill(name);
      await page.getByLabel(/^Demo key/).fill(DEMO_KEY);
      await page.getByRole("button", { name: "Enter" }).click();
      await connected(page);
      return page;
    }

    const connected = (page) => page.locator("#status[data-state=live]").waitFor();
    const person = (page, name) => page.getByRole("navigation").getByRole("button").filter({ hasText: name });
    const said = (page, words) => page.getByRole("log").locator("li").filter({ hasText: words });

    async function talkTo(page, name) {
      await person(page, name).filter({ hasText: "online" }).click();
      await page.getByLabel("Message", { exact: true }).and(page.locator(":enabled")).waitFor();
    }

    async function say(page, words) {
      await page.getByLabel("Message", { exact: true }).fill(words);
      await page.keyboard.press("Enter");
    }

    test("two people talk, and what is between them cannot read it", async (t) => {
      const canary = `canary-${randomBytes(8).toString("hex")}`;
      const alice = await enter(t, "alice");
      const bob = await enter(t, "bob", { colorScheme: "dark" });
      await talkTo(alice, "bob");
      await talkTo(bob, "alice");
      const number = await alice.locator(".number").textContent();
      assert.match(number, /^(\d{5} ){5}\d{5}$/);
      assert.equal(await bob.locator(".number").textContent(), number);

      await say(alice, `Hello Bob! Our word is ${canary} 🙂`);
      await said(bob, canary).waitFor();
      await said(alice, canary).filter({ hasText: "delivered" }).waitFor();
      await say(bob, `<img src=x onerror=alert(1)> ${canary}`);
      await said(alice, "<img src=x").waitFor();
      assert.equal(await alice.locator("#log img").count(), 0);
      await say(alice, "That stays between us, then.");
      await said(bob, "between us").waitFor();
      await said(alice, "between us").filter({ hasText: "delivered" }).waitFor();

      const wire = JSON.parse(await bob.locator("#wire").textContent());
      assert.equal(wire.type, "chat.sealed");
      await alice.getByText("What gateway and Symfony see").click();
      await alice.screenshot({ path: join(SCREENSHOTS, `chat-${mode}-light.png`) });
      await bob.screenshot({ path: join(SCREENSHOTS, `chat-${mode}-dark.png`) });

      // What was listened to is what they said: the ciphertext is there, the text is not, in no usual spelling.
      await until("the ciphertext", () => stack.overheard.includes(wire.sealed.replaceAll("/", "\\/")) || stack.overheard.includes(wire.sealed));
      const seen = stack.overheard + everyFile(stack.directory) + streams(stack);
      for (const spelling of [canary, Buffer.from(canary).toString("base64").slice(0, -4), Buffer.from(canary).toString("hex")]) {
        assert.ok(!seen.includes(spelling), `"${spelling}" was overheard`);
      }
      // And the search does find what is sent in the open.
      await alice.evaluate(({ canary }) => new Promise((done) => {
        const socket = new WebSocket(document.body.dataset.url, ["bearer", window.openToken]);
        socket.onopen = () => done(socket.send(JSON.stringify({ type: "note", text: `open ${canary}` })));
      }), { canary, t: await alice.evaluate(async () => {
        const answer = await fetch(document.body.dataset.tokenUrl, { method: "POST" });
        window.openToken = (await answer.json()).token;
      }) });
      await until("the open text", () => stack.overheard.includes(`open ${canary}`));
    });

    test("people are seen to come and go", async (t) => {
      const alice = await enter(t, "alice");
      await alice.getByText("Nobody else is here").waitFor();
      const carol = await enter(t, "carol");
      await person(alice, "carol").filter({ hasText: "online" }).waitFor();
      await person(carol, "alice").filter({ hasText: "online" }).waitFor();
      await talkTo(carol, "alice");
      await say(carol, "One");
      await said(alice, "One").waitFor();
      await carol.context().close();
      await person(alice, "carol").filter({ hasText: "offline" }).waitFor();
      await said(alice, "carol left").waitFor();
      assert.ok(await alice.getByLabel("Message", { exact: true }).isDisabled());
    });

    test("what is changed, sent again or sent elsewhere is refused", async (t) => {
      const page = await enter(t, "alice");
      const refused = await page.evaluate(async () => {
        const { Channel, Identity, fromBase64, toBase64 } = await import("/chat/crypto.js");
        const [a, b, m] = [await Identity.create(), await Identity.create(), await Identity.create()];
        const toB = await Channel.create(a, b.key, "alice", "bob");
        const toA = await Channel.create(b, a.key, "bob", "alice");
        const toM = await Channel.create(m, a.key, "mallory", "alice");
        const otherName = await Channel.create(b, a.key, "bob", "carol");
        const tried = {};
        const open = async (name, channel, envelope) => {
          tried[name] = await channel.open(envelope).then((content) => content.text, (error) => `refused: ${error.message}`);
        };
        const [one, two] = [await toB.seal({ text: "one" }), await toB.seal({ text: "two" })];
        const flip = (text) => {
          const bytes = fromBase64(text);
          bytes[0] ^= 1;
          return toBase64(bytes);
        };
        await open("changed", toA, { ...one, sealed: flip(one.sealed) });
        await open("other iv", toA, { ...one, iv: flip(one.iv) });
        await open("other number", toA, { ...one, number: "9" });
        await open("by its maker", toB, one);
        await open("by another", toM, one);
        await open("under another name", otherName, one);
        await open("one", toA, one);
        await open("one again", toA, one);
        await open("two", toA, two);
        await open("one late", toA, one);
        const own = await Channel.create(a, a.key, "alice", "bob").catch((error) => error.message);
        const noKey = await Channel.create(a, toBase64(new Uint8Array(65)), "alice", "bob").catch((error) => error.message);
        return { tried, own, noKey, same: toA.safetyNumber === toB.safetyNumber, swapped: toM.safetyNumber === toB.safetyNumber,
          lengths: [(await toB.seal({ text: "a" })).sealed.length === (await toB.seal({ text: "a".repeat(90) })).sealed.length] };
      });
      const changed = "refused: it was changed on its way, or is not meant for this page";
      assert.deepEqual(refused, {
        tried: {
          changed, "other iv": changed, "other number": changed, "by its maker": changed, "by another": changed,
          "under another name": changed, one: "one", "one again": "refused: it came before", two: "two",
          "one late": "refused: it came before",
        },
        own: "their key is this page's own",
        noKey: "their key is no key on P-256",
        same: true,
        swapped: false,
        lengths: [true],
      });
    });

    test("it comes back by itself", async (t) => {
      const network = /WebSocket connection to .* failed|ERR_CONNECTION_REFUSED/;
      const alice = await enter(t, "alice", {}, network);
      const bob = await enter(t, "bob", {}, network);
      await talkTo(alice, "bob");
      const number = await alice.locator(".number").textContent();
      await stack.stopGateway("SIGKILL");
      for (const page of [alice, bob]) await page.getByText(/connection lost, next try in|reconnecting/).waitFor();
      stack.startGateway();
      for (const page of [alice, bob]) await connected(page);
      await talkTo(alice, "bob");
      await talkTo(bob, "alice");
      assert.equal(await bob.locator(".number").first().textContent(), number, "the keys are the same");
      await say(alice, "Still here?");
      await said(bob, "Still here?").waitFor();
      assert.equal(await said(bob, "Still here?").count(), 1);
      await said(alice, "Still here?").filter({ hasText: "delivered" }).waitFor();
    });

    test("it waits as long as it is asked to, and longer after each failure", async (t) => {
      const page = await enter(t, "alice");
      const result = await page.evaluate(async () => {
        const { Connection, backOff } = await import("/chat/connection.js");
        const opened = [];
        window.WebSocket = class extends EventTarget {
          static OPEN = 1;
          readyState = 1;
          constructor() {
            super();
            opened.push({ at: performance.now(), socket: this });
          }
          send() {}
          close() {
            setTimeout(() => this.onclose({ code: 1000, reason: "" }));
          }
        };
        const connection = new Connection("ws://localhost/", "a.e30.c", async () => "token");
        connection.open();
        await new Promise((done) => setTimeout(done, 20));
        opened[0].socket.onopen();
        opened[0].socket.onmessage({ data: '{"type":"reconnect","after_ms":300}' });
        await new Promise((done) => setTimeout(done, 600));
        const pause = opened[1].at - opened[0].at;
        return { count: opened.length, pause, waits: [0, 1, 2, 3, 20].map((n) => [backOff(n, () => 0), backOff(n, () => 1)]) };
      });
      assert.equal(result.count, 2);
      assert.ok(result.pause >= 300 && result.pause < 600, `${result.pause} ms`);
      assert.deepEqual(result.waits, [[250, 500], [500, 1000], [1000, 2000], [2000, 4000], [15000, 30000]]);
    });

    test("everything can be done by keyboard, and has a name", async (t) => {
      const alice = await enter(t, "alice");
      await enter(t, "bob");
      await person(alice, "bob").filter({ hasText: "online" }).focus();
      await alice.keyboard.press("Enter");
      await alice.getByLabel("Message", { exact: true }).and(alice.locator(":focus:enabled")).waitFor();
      await alice.keyboard.type("By hand");
      await alice.keyboard.press("Tab");
      await alice.keyboard.press("Enter");
      await said(alice, "By hand").filter({ hasText: "delivered" }).waitFor();
      const unnamed = await alice.$$eval("input, textarea, button, summary", (all) =>
        all.filter((one) => !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).map((one) => one.outerHTML));
      assert.deepEqual(unnamed, []);
      for (const width of [360, 800]) {
        await alice.setViewportSize({ width, height: 740 });
        const overflow = await alice.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.equal(overflow, 0, `at ${width} px`);
        await alice.screenshot({ path: join(SCREENSHOTS, `chat-${mode}-${width}.png`), fullPage: true });
      }
    });

    test("the door says what is wrong", async (t) => {
      const page = await browser.newPage();
      t.after(() => page.close());
      await page.goto(`${stack.url}/demo/chat`);
      await page.screenshot({ path: join(SCREENSHOTS, "chat-door.png") });
      await page.getByLabel("Your name").fill("alice");
      await page.getByLabel(/^Demo key/).fill("wrong");
      await page.getByRole("button", { name: "Enter" }).click();
      await page.getByRole("alert").filter({ hasText: "That is not the demo key." }).waitFor();
      assert.equal(await page.getByLabel("Your name").inputValue(), "alice");
    });
  });
}

/** What the application wrote to disk: caches, sessions, logs. */
function everyFile(directory) {
  const found = spawnSync("find", [directory, "-type", "f"], { encoding: "utf8" }).stdout.split("\n").filter(Boolean);
  return found.map((file) => readFileSync(file, "latin1")).join("\n");
}

/** What is in Redis. */
function streams(stack) {
  if (stack.mode !== "core") return "";
  const cli = (...args) => spawnSync("redis-cli", ["-p", String(stack.redisPort), ...args], { encoding: "utf8" }).stdout;
  return ["ws.inbox", "ws.events", "ws.outbox", "ws.dlq", "demo.inbox"].map((stream) => cli("XRANGE", stream, "-", "+")).join("\n");
}
