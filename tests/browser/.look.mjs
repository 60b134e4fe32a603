import { readFileSync, writeFileSync, mkdirSync } from "node:fs";
import { Scene, needs, CHROMIUM, KEYS } from "/work/h-admin/tests/browser/gateway.mjs";
const OUT = "/tmp/shots"; mkdirSync(OUT, { recursive: true });
const chromium = await needs();
const scene = await Scene.start();
const browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: ["--no-sandbox","--disable-gpu"] });
try {
  const clients = await (await browser.newContext()).newPage();
  const users = Array.from({ length: 48 }, (_, i) => `user-${i}`);
  await clients.evaluate(async (urls) => {
    const open = (url) => new Promise((done) => { const s = new WebSocket(url); s.onopen = () => done(s); });
    const sockets = [];
    for (const url of urls.slice(0, 12)) sockets.push(await open(url));
    let n = 0, next = 12;
    setInterval(async () => { n++; const wave = 0.55 + 0.45 * Math.sin(n / 80) * Math.sin(n / 23);
      for (const s of sockets) if (Math.random() < wave * 0.3) s.send(JSON.stringify({type: "chat", topic: `room:${n % 2}`, payload: "hello"}));
      if (n % 2) sockets[n % sockets.length].send('{"type":"ping"}');
      if (n % 330 === 0) sockets[1].send(JSON.stringify({type:"note", payload: "refuse me"}));
      if (n % 60 === 0 && next < urls.length) sockets.push(await open(urls[next++]));
      if (n % 210 === 0) { const gone = sockets.splice(3, 3); for (const s of gone) s.close(1000); }
    }, 100);
  }, users.map((u, i) => scene.socket(u, [`room:${i % 2}`])));
  let m = 0;
  setInterval(() => { m++; if (Math.sin(m / 40) > -0.3 && Math.random() < 0.7) scene.publish([`room:${m % 2}`], { hello: 1 }).catch(() => {}); }, 150);
  const pages = [];
  for (const scheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: scheme });
    const page = await context.newPage();
    await page.route(/\/admin\/[a-z]*\.?(js|css|html)?$/, async (route) => {
      const name = new URL(route.request().url()).pathname.split("/").pop() || "page.html";
      const response = await route.fetch();
      await route.fulfill({ response, body: readFileSync(`/work/h-admin/src/admin/${name}`) });
    });
    await page.addInitScript(() => { const real = Date.now.bind(Date), t0 = real(); Date.now = () => t0 - 780000 + (real() - t0) * 6; const st = setTimeout; window.setTimeout = (f, ms) => st(f, ms / 6); });
    await page.goto(scene.page);
    await page.getByLabel("The value of").fill(KEYS.operator);
    await page.keyboard.press("Enter");
    pages.push([scheme, page]);
  }
  await new Promise((done) => setTimeout(done, Number(process.env.WAIT ?? 156000)));
  for (const [scheme, page] of pages) {
    await page.locator("#sentence").waitFor();
    const png = await page.screenshot({ path: `${OUT}/doc-${scheme}.png`, fullPage: true });
    const data = await clients.evaluate(async (b64) => { const img = new Image(); img.src = "data:image/png;base64," + b64; await img.decode(); const c = document.createElement("canvas"); c.width = img.width; c.height = img.height; c.getContext("2d").drawImage(img, 0, 0); return c.toDataURL("image/webp", 0.86).split(",")[1]; }, png.toString("base64"));
    writeFileSync(`${OUT}/admin-${scheme}.webp`, Buffer.from(data, "base64"));
    console.log(scheme, png.length, data.length * 0.75);
  }
} finally { await browser.close(); await scene.stop(); }
process.exit(0);
