// The page of `wsgw dev` in a real browser: clicks what a newcomer clicks, and asserts on what a person sees.
//
//   cargo build && npm --prefix tests/browser ci && npm --prefix tests/browser test
//
// WSGW_BIN names another binary, CHROMIUM another browser, SCREENSHOTS a folder for the pictures.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = resolve(HERE, "../..");
const WSGW = process.env.WSGW_BIN ?? join(ROOT, "target/debug/wsgw");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SCREENSHOTS = process.env.SCREENSHOTS ?? join(ROOT, "target/screenshots");
const PATIENCE = 10_000;
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Fails, rather than skips, where something is missing: a test that does not run must not look like one that does. */
async function needs() {
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

/** Starts `wsgw dev` on a free port and waits for its banner. */
function startGateway(...args) {
  const child = spawn(WSGW, ["dev", "--listen", "127.0.0.1:0", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const gateway = { child, banner: "", errors: "" };
  gateway.exited = new Promise((done) => child.on("exit", (code) => done(code)));
  child.stderr.on("data", (part) => (gateway.errors += part));
  return new Promise((ready, fail) => {
    gateway.exited.then((code) => fail(new Error(`wsgw dev ended with ${code}: ${gateway.errors}`)));
    child.stdout.on("data", (part) => {
      gateway.banner += part;
      const page = /Page +(\S+)/.exec(gateway.banner);
      if (page && gateway.banner.includes("Ctrl-C stops")) ready({ ...gateway, url: page[1] });
    });
  });
}

describe("the page of wsgw dev", { timeout: 180_000 }, () => {
  let chromium;
  let browser;
  let gateway;
  // Ended by the suite itself: what a failing test leaves running would keep node waiting.
  const children = [];

  before(async () => {
    chromium = await needs();
    gateway = await startGateway();
    browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
    mkdirSync(SCREENSHOTS, { recursive: true });
  });

  after(async () => {
    await browser?.close();
    gateway?.child.kill("SIGTERM");
    await gateway?.exited;
    for (const child of children) child.kill("SIGKILL");
  });

  /** Opens the page, and fails the test on whatever the browser complains about. */
  async function open(t, options = {}, url = gateway.url) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const complaints = [];
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error") complaints.push(message.text());
    });
    t.after(async () => {
      await context.close();
      assert.deepEqual(complaints, []);
    });
    await page.goto(url);
    await page.getByText(/^live at /).waitFor();
    return { page, complaints, one: client(page, "Client"), two: client(page, "Second client") };
  }

  /** What a person can do with one client's card. */
  function client(page, name) {
    const card = page.getByRole("region", { name, exact: true });
    const log = card.getByRole("log");
    return {
      card,
      log,
      click: (button) => card.getByRole("button", { name: button, exact: true }).click(),
      logged: (kind, text) => log.locator("li").filter({ hasText: kind }).filter({ hasText: text }).last().waitFor(),
      connect: async () => {
        await card.getByRole("button", { name: "Connect", exact: true }).click();
        await card.getByText("connected", { exact: true }).waitFor();
      },
    };
  }

  /** Waits until every stage shows its word, as a person reads them from left to right. */
  async function stages(page, words) {
    const shown = () =>
      page.$$eval("#stages li", (boxes) => boxes.map((box) => box.querySelector(".word").textContent).join(" | "));
    const wanted = words.join(" | ");
    const until = Date.now() + PATIENCE;
    while (Date.now() < until) {
      if ((await shown()) === wanted) return;
      await page.waitForTimeout(50);
    }
    assert.equal(await shown(), wanted);
  }

  const PUBLISHED = ["passed", "passed", "passed", "passed", "passed", "published"];

  async function eventShown(page, wanted) {
    await page.waitForFunction(
      (wanted) => {
        try {
          const event = JSON.parse(document.getElementById("event-json").textContent);
          return Object.entries(wanted).every(([key, value]) => JSON.stringify(event[key]) === JSON.stringify(value));
        } catch {
          return false;
        }
      },
      wanted,
    );
    return JSON.parse(await page.locator("#event-json").textContent());
  }

  test("a message lights up the stages and becomes the event", async (t) => {
    const { page, one } = await open(t);
    assert.match(await page.locator("#caption").textContent(), /Connect below/);
    assert.ok(await one.card.getByRole("button", { name: "Send", exact: true }).isDisabled());
    await one.connect();
    await one.logged("opened", "as demo");
    await eventShown(page, { type: "connected", user_id: "demo", seq: 1 });
    await one.click("Send");
    await page.locator("#caption").filter({ hasText: /demo sent .*hello.*: published after [\d.]+ .s\./ }).waitFor();
    await stages(page, PUBLISHED);
    for (const time of await page.locator("#stages .time").allTextContents()) assert.match(time, /^[\d.]+ (µs|ms)$/);
    const event = await eventShown(page, {
      type: "message_received",
      user_id: "demo",
      subjects: ["user:demo", "room:1"],
      seq: 2,
      message: { type: "chat", topic: "room:1", payload: "hello" },
      ordering_key: "room:1",
    });
    assert.equal(event.raw, '{"type":"chat","topic":"room:1","payload":"hello"}');
    assert.match(event.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    await page.getByRole("button", { name: /message_received.*demo · seq 2/ }).waitFor();
  });

  test("the stages light up one after the other", async (t) => {
    const { page, one } = await open(t);
    await one.connect();
    await stages(page, PUBLISHED);
    await page.evaluate(() => {
      window.seen = [];
      const watch = new MutationObserver((changes) => {
        for (const { target } of changes) if (target.dataset.state === "running") window.seen.push(target.dataset.stage);
      });
      watch.observe(document.getElementById("stages"), { subtree: true, attributeFilter: ["data-state"] });
    });
    await one.click("Send");
    await page.waitForFunction(() => window.seen.length === 6);
    const seen = await page.evaluate(() => window.seen);
    assert.deepEqual(seen, ["auth", "ping_filter", "rate_limit", "ordering_key", "trace", "fan_out"]);
    await stages(page, PUBLISHED);
  });

  test("pings and heartbeats are answered by ping_filter and go no further", async (t) => {
    const { page, one } = await open(t);
    await one.connect();
    for (const [button, answer] of [
      ["Ping", '{"type":"pong"}'],
      ["Heartbeat", '{"type":"heartbeat_ack"}'],
    ]) {
      await one.click(button);
      await one.logged("received", answer);
      await stages(page, ["passed", "answered", "not reached", "not reached", "not reached", "not reached"]);
      // The page names a message once it knows whose connection it came on.
      const row = page.locator("#passes li").first();
      await row.filter({ hasText: new RegExp(`${button.toLowerCase()}.*answered by ping_filter`) }).waitFor();
    }
    await eventShown(page, { type: "connected", seq: 1 });
  });

  test("fifty at once meet the rate limit", async (t) => {
    const { page, one } = await open(t);
    await one.connect();
    await one.click("Send 50 at once");
    await one.logged("sent", "×50");
    await one.logged("received", '{"type":"rate_limited"}');
    const caption = page.locator("#caption").filter({ hasText: /50 messages at once: \d+ published, \d+ stopped by rate_limit\./ });
    await caption.waitFor();
    const [, published, stopped] = /(\d+) published, (\d+) stopped/.exec(await caption.textContent()).map(Number);
    assert.equal(published + stopped, 50);
    assert.ok(published >= 20 && published < 45, `${published} published`);
    await stages(page, ["passed", "passed", "stopped", "not reached", "not reached", "not reached"]);
    await eventShown(page, { type: "message_received", seq: published + 1 });
    const missed = await page.locator("#missed").isVisible();
    assert.equal(missed, false, "a burst like this is shown whole");
    // An earlier one can be looked at again.
    await page.locator("#passes button").filter({ hasText: "connected" }).first().click();
    await stages(page, PUBLISHED);
  });

  test("binary frames and raw text arrive wrapped", async (t) => {
    const { page, one } = await open(t);
    await one.connect();
    await one.click("Binary");
    await one.logged("sent", "de ad be ef");
    await eventShown(page, { message: { type: "binary", encoding: "base64", payload: "3q2+7w==" } });
    await one.click("Raw text");
    await eventShown(page, { raw: "hello, this is no JSON", message: { type: "raw", payload: "hello, this is no JSON" } });
    await one.card.getByLabel("Message").fill("not JSON either");
    await one.card.getByText("the backend gets it as raw text").waitFor();
    await one.card.getByLabel("Message").press("Control+Enter");
    await eventShown(page, { raw: "not JSON either" });
  });

  test("numbers and markup are shown as they were sent", async (t) => {
    const { page, one } = await open(t);
    await one.connect();
    const text = '{"n":1.10,"big":12345678901234567890123,"html":"<img src=x onerror=alert(1)>"}';
    await one.card.getByLabel("Message").fill(text);
    await one.click("Send");
    const shown = page.locator("#event-json");
    await shown.filter({ hasText: '"n": 1.10' }).filter({ hasText: '"big": 12345678901234567890123' }).waitFor();
    assert.match(await shown.textContent(), /<img src=x onerror=alert\(1\)>/);
    assert.equal(await page.locator("main img").count(), 0);
  });

  test("an expired token is closed with 4401 and its reason", async (t) => {
    const { page, one } = await open(t);
    await one.click("Expired token");
    await one.logged("closed", "4401 unauthorised: token expired");
    await one.connect();
    await one.click("Expired token");
    await page.waitForFunction(() => document.querySelectorAll('#client-one [data-kind="closed"]').length === 2);
    await one.card.getByText("connected", { exact: true }).waitFor();
  });

  test("a push reaches one user, or all who listen to a subject", async (t) => {
    const { page, one, two } = await open(t);
    await one.connect();
    await page.getByText("Second user").click();
    await two.connect();
    const publish = page.getByRole("button", { name: "Publish", exact: true });
    const result = page.locator("#push-result");
    await publish.click();
    await result.filter({ hasText: '200 {"sent":1}' }).waitFor();
    await one.logged("push", '{"type":"event","payload":{"hello": "from the backend"}}');
    assert.equal(await two.log.getByText("push").count(), 0);
    await page.getByLabel("To subject").fill("room:1");
    await publish.click();
    await result.filter({ hasText: '200 {"sent":2}' }).waitFor();
    await two.logged("push", "from the backend");
    await page.getByLabel("To subject").fill("user:nobody");
    await publish.click();
    await result.filter({ hasText: '200 {"sent":0}' }).waitFor();
    await page.getByLabel(/^Payload/).fill("{oops");
    await publish.click();
    await result.filter({ hasText: "The payload is no JSON" }).waitFor();
  });

  test("the shown command does the same", async (t) => {
    const { page, one } = await open(t);
    await one.connect();
    await page.getByText("The same on the command line").click();
    const command = await page.locator("#push-curl").textContent();
    const curl = spawn("sh", ["-c", command], { stdio: ["ignore", "pipe", "inherit"] });
    let answer = "";
    for await (const part of curl.stdout) answer += part;
    assert.equal(answer, '{"sent":1}');
    await one.logged("push", "from the backend");
  });

  test("the log tells closes from both sides", async (t) => {
    const { page, one } = await open(t);
    await one.connect();
    await page.getByRole("button", { name: "Disconnect clients" }).click();
    await one.logged("closed", "4403 disconnected by the backend: asked on the dev page");
    await one.card.getByText("closed 4403").waitFor();
    await eventShown(page, { type: "disconnected", close_code: 4403 });
    await one.connect();
    await one.click("Disconnect");
    await one.logged("closed", "1000");
    await eventShown(page, { type: "disconnected", close_code: 1000 });
    await page.locator("#caption").filter({ hasText: /demo disconnected: published/ }).waitFor();
  });

  test("the pipeline file can be read", async (t) => {
    const { page } = await open(t);
    const button = page.getByRole("button", { name: "Pipeline file" });
    assert.equal(await button.getAttribute("aria-expanded"), "false");
    await button.click();
    await page.getByText("rate_limit: { per_second: 10, burst: 20 }").waitFor();
    assert.equal(await button.getAttribute("aria-expanded"), "true");
  });

  test("everything can be done by keyboard, and has a name", async (t) => {
    const { page, one } = await open(t);
    await one.card.getByLabel("User").focus();
    await page.keyboard.press("Enter");
    await one.card.getByText("connected", { exact: true }).waitFor();
    await one.card.getByLabel("Message").focus();
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => {
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return { text: document.activeElement.textContent, outlineStyle, outlineWidth };
    });
    assert.deepEqual(focused, { text: "Send", outlineStyle: "solid", outlineWidth: "2px" });
    await page.keyboard.press("Enter");
    await eventShown(page, { type: "message_received", seq: 2 });
    const unnamed = await page.$$eval("input, textarea, button", (all) =>
      all.filter((one) => !one.labels?.length && !one.textContent.trim() && !one.getAttribute("aria-label")).length,
    );
    assert.equal(unnamed, 0);
    for (const live of ["#caption", "#feed-status", "#missed"]) {
      assert.equal(await page.locator(live).getAttribute("role"), "status");
    }
  });

  test("a gateway that stops is said so, and one that comes back is used", async (t) => {
    const own = await startGateway();
    children.push(own.child);
    const port = new URL(own.url).port;
    const { page, one, complaints } = await open(t, {}, own.url);
    await one.connect();
    own.child.kill("SIGTERM");
    assert.equal(await own.exited, 0, own.errors);
    await one.logged("closed", "1001 gateway stopping");
    await page.getByText("gateway not reachable, trying again").waitFor();
    const again = spawn(WSGW, ["dev", "--listen", `127.0.0.1:${port}`], { stdio: "ignore" });
    children.push(again);
    await page.getByText(/^live at /).waitFor({ timeout: 20_000 });
    await one.connect();
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await page.locator("#push-result").filter({ hasText: '200 {"sent":1}' }).waitFor();
    // The browser reports the time without a gateway as failed requests.
    complaints.splice(0, Infinity, ...complaints.filter((text) => !text.includes("ERR_")));
  });

  test("looks right in light, dark and narrow", async (t) => {
    const pictures = [
      { name: "light-1280", viewport: { width: 1280, height: 900 }, colorScheme: "light" },
      { name: "dark-1280", viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
      { name: "light-400", viewport: { width: 400, height: 800 }, colorScheme: "light" },
      { name: "dark-400", viewport: { width: 400, height: 800 }, colorScheme: "dark" },
    ];
    const backgrounds = new Set();
    for (const { name, ...options } of pictures) {
      const { page, one } = await open(t, options);
      await one.connect();
      await stages(page, PUBLISHED);
      await one.click("Ping");
      await one.logged("received", "pong");
      await page.getByRole("button", { name: "Publish", exact: true }).click();
      await one.logged("push", "from the backend");
      await page.waitForTimeout(300);
      await one.click("Send");
      await stages(page, PUBLISHED);
      await page.waitForTimeout(400);
      const { wide, background } = await page.evaluate(() => ({
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        background: getComputedStyle(document.body).backgroundColor,
      }));
      assert.equal(wide, 0, `${name} scrolls sideways`);
      backgrounds.add(background);
      await page.mouse.move(0, 0);
      const path = join(SCREENSHOTS, `dev-${name}.png`);
      await page.screenshot({ path, fullPage: true });
      assert.ok(statSync(path).size > 20_000, `${name} is no empty picture`);
    }
    assert.equal(backgrounds.size, 2, "light and dark differ");
  });
});
