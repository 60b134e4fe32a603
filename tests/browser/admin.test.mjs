// The operator's page in a real browser, at a real gateway with a Redis and a webhook: what an operator does, and reads.
//
//   cargo build && npm --prefix tests/browser ci && node --test tests/browser/admin.test.mjs
//
// WSGW_BIN names another binary, CHROMIUM another browser, SCREENSHOTS a folder for the pictures.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { CHROMIUM, eventually, KEYS, needs, ROOT, Scene } from "./gateway.mjs";

const SCREENSHOTS = process.env.SCREENSHOTS ?? join(ROOT, "target/screenshots");
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE = 15_000;
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const VIEWS = ["Overview", "Connections", "Dead letters", "Live tail", "Configuration"];

describe("the operator's page", { timeout: 300_000 }, () => {
  let browser;
  let scene;
  let clients;

  before(async () => {
    const chromium = await needs();
    scene = await Scene.start();
    browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS });
    mkdirSync(SCREENSHOTS, { recursive: true });
    clients = await (await browser.newContext()).newPage();
    await clients.evaluate(() => {
      window.sockets = new Map();
      window.connect = (name, url) =>
        new Promise((done, fail) => {
          const socket = new WebSocket(url);
          socket.onopen = () => done();
          socket.onerror = fail;
          socket.onclose = ({ code, reason }) => (socket.closed = `${code} ${reason}`);
          window.sockets.set(name, socket);
        });
    });
    for (const user of ["alice", "bob"]) await connect(user);
  });

  after(async () => {
    await browser?.close();
    await scene?.stop();
  });

  const connect = (user) => clients.evaluate(([name, url]) => window.connect(name, url), [user, scene.socket(user, ["room:1"])]);
  const say = (user, message) =>
    clients.evaluate(([name, text]) => window.sockets.get(name).send(text), [user, JSON.stringify(message)]);
  const closed = (user) => clients.evaluate((name) => window.sockets.get(name).closed, user);

  /** Opens the page; fails the test on whatever the browser complains about, but for what is expected. */
  async function open(t, { key = KEYS.operator, expected = [], ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const complaints = [];
    const elsewhere = [];
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(scene.internal) && !url.startsWith("data:") && !url.startsWith("blob:")) elsewhere.push(url);
      assert.ok(!url.includes(KEYS.operator), "the key is in an address");
    });
    t.after(async () => {
      await context.close();
      assert.deepEqual(complaints.filter((text) => !expected.some((known) => text.includes(known))), []);
      assert.deepEqual(elsewhere, []);
    });
    await page.goto(scene.page);
    if (key) {
      await page.getByLabel("The value of admin.api_key").fill(key);
      await page.getByRole("button", { name: "Open" }).click();
      await page.getByRole("navigation").waitFor();
    }
    return page;
  }

  const view = (page, name) => page.getByRole("link", { name: new RegExp(`^${name}`) }).click();
  const cells = (page, table, row) =>
    page.locator(`#${table} tr`).filter({ has: page.getByRole("rowheader", { name: row, exact: true }) }).locator("td");

  /** Fails on every rule of WCAG 2.2 AA that a program can judge. */
  async function accessible(page, where) {
    // Through the debugger, as the page's own policy lets no further script in.
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() =>
      globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
    );
    const told = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" ")}`);
    assert.deepEqual(told, [], where);
  }

  test("asks for the key, keeps it in the tab, and forgets it when locked", async (t) => {
    const page = await open(t, { key: null, expected: ["401"] });
    assert.equal(await page.evaluate(() => document.activeElement.id), "key");
    await page.keyboard.type("wrong-key");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").filter({ hasText: "does not accept this key" }).waitFor();
    await page.keyboard.type(KEYS.operator);
    await page.keyboard.press("Enter");
    await page.getByText("Takes connections; all is well.").waitFor();
    assert.equal(await page.title(), "Ready · gateway-a");
    await page.reload();
    await page.getByText("Takes connections; all is well.").waitFor();
    const kept = await page.evaluate(() => [JSON.stringify(localStorage), document.cookie, document.documentElement.outerHTML]);
    assert.ok(!kept.join().includes(KEYS.operator));
    await page.getByRole("button", { name: "Lock" }).click();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await page.reload();
    await page.getByRole("heading", { name: "Operator key" }).waitFor();
    assert.ok(await page.locator("#overview").isHidden());
  });

  test("shows what passes, and where it waits", async (t) => {
    const page = await open(t);
    await page.getByRole("list", { name: "Checks" }).getByText("redis").waitFor();
    await eventually("two connections", async () => /Connections: 2,/.test(await page.getByRole("img").first().getAttribute("aria-label")));
    for (const stage of ["auth", "ping_filter", "rate_limit", "ordering_key", "fan_out"]) {
      await page.locator("#flow li.stage").filter({ hasText: stage }).waitFor();
    }
    await page.locator("#flow").getByText("when type chat").waitFor();
    for (let n = 0; n < 40; n += 1) await say("alice", { type: "chat", topic: "room:1", n });
    await scene.publish(["room:1"], { hello: 1 });
    const delivered = async (sink) => {
      const title = await cells(page, "sinks", sink).nth(3).getAttribute("title");
      return Number.parseInt(title?.replaceAll(",", "") ?? "0", 10) >= 42;
    };
    await eventually("40 messages and two connections at both sinks", async () => (await delivered("redis")) && delivered("webhook"));
    await eventually("a time of a try", async () => / \/ /.test(await cells(page, "sinks", "redis").nth(4).textContent()));
    await eventually("stages that were timed", async () => (await page.locator("#flow").getByText(/^p50 .*, p99 /).count()) >= 4);
    for (const table of ["sinks", "sources"]) await cells(page, table, "redis").getByText("up", { exact: true }).waitFor();
    const text = await page.locator("body").textContent();
    assert.ok(!text.includes("canary"), "a key shows in the page");
  });

  test("finds connections and disconnects one", async (t) => {
    await connect("carol");
    const page = await open(t);
    await view(page, "Connections");
    await page.getByText("3 connections.").waitFor();
    await page.getByLabel("Exactly").fill("carol");
    await page.getByLabel("Exactly").press("Enter");
    await page.getByText("1 connection.", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Disconnect carol" }).click();
    const dialog = page.getByRole("dialog", { name: "Disconnect?" });
    await dialog.getByRole("button", { name: "Cancel" }).click();
    assert.equal(await closed("carol"), undefined);
    await page.getByRole("button", { name: "Disconnect carol" }).click();
    await dialog.getByLabel(/Reason/).fill("asked by an operator");
    await accessible(page, "the dialog");
    await dialog.getByRole("button", { name: "Disconnect" }).click();
    await page.getByText("1 connection asked to close.").waitFor();
    await eventually("the close", async () => (await closed("carol")) === "4403 asked by an operator");
    await page.getByLabel("Search by").selectOption("subject");
    await page.getByLabel("Exactly").fill("room:1");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByText("2 connections.").waitFor();
    await page.getByRole("button", { name: "Disconnect all of room:1…" }).waitFor();
    await page.getByLabel("Exactly").fill("nobody");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByText("Nobody is connected by that name.").waitFor();
  });

  test("looks at dead letters, and replays them", async (t) => {
    for (let n = 1; n <= 3; n += 1) await say("bob", { type: "note", text: `refuse me ${n}` });
    await eventually("three dead letters", async () => {
      const { dead_letters: letters } = await (await scene.get("/internal/dead-letters")).json();
      return letters.length === 3;
    });
    const page = await open(t);
    await view(page, "Dead letters");
    await page.getByText(/^3 letters, as of/).waitFor();
    const row = page.locator("#letters-rows tr").first();
    await row.getByText("HTTP 400").waitFor();
    assert.ok(!(await page.locator("body").innerHTML()).includes("refuse me"), "a payload is in the page unasked");
    await row.getByRole("button", { name: "Show payload" }).click();
    await page.getByText('"text": "refuse me 1"').waitFor();
    await page.screenshot({ path: join(SCREENSHOTS, "admin-dead-letters.png") });
    await row.getByRole("button", { name: "Hide payload" }).click();
    assert.ok(!(await page.locator("body").innerHTML()).includes("refuse me"));
    await page.getByRole("button", { name: "Replay from Redis" }).click();
    const dialog = page.getByRole("dialog", { name: "Replay from Redis?" });
    await dialog.getByLabel("At most").fill("2");
    await dialog.getByRole("button", { name: "Replay" }).click();
    await page.getByText("2 letters replayed from Redis.").waitFor();
    assert.equal(await page.locator("#letters-rows tr:not(.payload)").count(), 1);
    await page.getByRole("combobox", { name: "Sink" }).selectOption("redis");
    await page.getByRole("button", { name: "List" }).click();
    await page.getByText("There are none.").waitFor();
  });

  test("follows one user, live", async (t) => {
    const page = await open(t);
    await view(page, "Live tail");
    await page.getByRole("textbox", { name: "User id" }).fill("alice");
    await page.getByRole("button", { name: "Follow" }).click();
    await page.getByText("Following alice.").waitFor();
    await say("bob", { type: "chat", text: "of bob" });
    await say("alice", { type: "chat", text: "of alice" });
    const log = page.getByRole("list", { name: /What happened/ });
    await log.getByText("message received").first().click();
    await log.getByText('"text": "of alice"').first().waitFor();
    await scene.publish(["user:alice"], { pushed: true });
    await log.getByText("push", { exact: true }).waitFor();
    assert.ok(!(await log.textContent()).includes("of bob"));
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText("Stopped.").waitFor();
    const before = await log.locator("li").count();
    await say("alice", { type: "chat", text: "unseen" });
    await eventually("that it is published", async () => scene.received.some((event) => event.message?.text === "unseen"));
    assert.equal(await log.locator("li").count(), before);
  });

  test("tells of reloads, and sets the level of the log", async (t) => {
    const page = await open(t, { expected: ["400"] });
    await view(page, "Configuration");
    await page.getByRole("img", { name: "The pipeline in force" }).waitFor();
    scene.configure({ perSecond: 90 });
    await scene.reload();
    scene.configure({ more: "  typo: 1\n" });
    await scene.reload();
    scene.configure({ perSecond: 90 });
    await page.getByText("stages.rate_limit.per_second").waitFor();
    await page.getByText(/pipeline\.yaml:\d+:\d+ there is no key `typo`/).waitFor();
    const loaded = () => page.$eval("#picture img", (image) => image.complete && image.naturalWidth > 0);
    await eventually("the picture is loaded", loaded);
    await page.getByLabel("Level or filter").fill("info,wsgw::sinks=debug");
    await page.getByRole("button", { name: "Set" }).click();
    await page.getByText("Set to info,wsgw::sinks=debug for 5 min 0 s.").waitFor();
    const level = await (await scene.get("/internal/log-level")).json();
    assert.equal(level.level, "info,wsgw::sinks=debug");
    await page.getByLabel("Level or filter").fill("shouting");
    await page.getByRole("button", { name: "Set" }).click();
    await page.locator("#log-result[data-state=bad]").waitFor();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`is accessible in ${colorScheme} colours`, async (t) => {
      const page = await open(t, { key: null, colorScheme, reducedMotion: "reduce" });
      await accessible(page, "the form for the key");
      await page.getByLabel("The value of admin.api_key").fill(KEYS.operator);
      await page.keyboard.press("Enter");
      await page.getByText("Takes connections").waitFor();
      for (const name of VIEWS) {
        await view(page, name);
        if (name === "Connections") await page.getByText(/connections?\./).first().waitFor();
        if (name === "Dead letters") await page.getByRole("button", { name: "Show payload" }).first().click();
        if (name === "Configuration") await page.getByRole("img").first().waitFor();
        await accessible(page, `${name}, ${colorScheme}`);
        await page.screenshot({ path: join(SCREENSHOTS, `admin-${colorScheme}-${name.toLowerCase().replace(" ", "-")}.png`), fullPage: true });
      }
    });
  }

  test("can be used with the keyboard alone", async (t) => {
    const page = await open(t, { key: null });
    await page.keyboard.type(KEYS.operator);
    await page.keyboard.press("Enter");
    await page.getByRole("navigation").waitFor();
    const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.id);
    const tabTo = async (wanted, most = 40) => {
      for (let n = 0; n < most; n += 1) {
        await page.keyboard.press("Tab");
        if ((await focused()).startsWith(wanted)) return;
      }
      assert.fail(`${wanted} is not reached by Tab`);
    };
    await page.evaluate(() => document.activeElement.blur());
    await tabTo("Skip to the content");
    await tabTo("Connections");
    const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(ring, "solid", "where the focus is can be seen");
    await page.keyboard.press("Enter");
    await page.getByText(/connections?\./).first().waitFor();
    await tabTo("Disconnect…");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    assert.equal(await focused(), "Disconnect…", "the focus is back");
  });

  test("fits a narrow screen", async (t) => {
    const page = await open(t, { viewport: { width: 360, height: 740 } });
    for (const name of VIEWS) {
      await view(page, name);
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 360, `${name} is ${width} wide`);
      await page.screenshot({ path: join(SCREENSHOTS, `admin-narrow-${name.toLowerCase().replace(" ", "-")}.png`), fullPage: true });
    }
  });

  // The last one, as it ends the connections.
  test("says that the gateway is gone, and goes on with the next one", async (t) => {
    const page = await open(t, { expected: ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE"] });
    await page.getByText("Takes connections; all is well.").waitFor();
    await scene.stopGateway();
    await page.getByText("The gateway cannot be reached.").waitFor();
    await page.getByText("Not reachable", { exact: true }).waitFor();
    assert.equal(await page.title(), "Not reachable · wsgw operator");
    await accessible(page, "the gateway is gone");
    await scene.startGateway();
    await page.getByText("The gateway was started again: counts begin anew.").waitFor();
    await page.getByText("Ready", { exact: true }).waitFor();
  });
});
