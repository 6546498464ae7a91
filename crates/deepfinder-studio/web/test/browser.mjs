// Drives the page in a real browser: node test/browser.mjs PROGRAM FOLDER BROWSER. Screenshots are left in FOLDER.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [program, folder, executablePath] = process.argv.slice(2);
const project = join(folder, "project");
const LONG = 240_000;

async function start(...target) {
  const server = spawn(program, ["studio", ...target, "--no-open", "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: server.stdout })) {
    const url = /studio: (\S+)/.exec(line)?.[1];
    if (url) return { server, url };
  }
  throw new Error("the server said no address");
}

let passed = 0;
async function step(name, work) {
  const begun = Date.now();
  await work();
  passed++;
  console.log(`ok  ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
}

execFileSync(program, ["simulate", "-o", project, "--tomograms", "1", "--shape", "48,64,64", "--particles", "4", "--seed", "3"]);
let { server, url } = await start(project);
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"],
});
const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, acceptDownloads: true });
const page = await context.newPage();
page.setDefaultTimeout(30_000);
const mistakes = [];
page.on("pageerror", (error) => mistakes.push(String(error)));
// Refusals are asked for, and so is the end of the server.
page.on("console", (message) => message.type() === "error" && !/status of 4\d\d|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION/.test(message.text()) && mistakes.push(message.text()));

const ready = () => page.waitForSelector("body[data-ready=yes]");
const settled = () => page.waitForFunction(() => globalThis.studio?.settled());
const view = (name) => page.locator(`canvas[data-view="${name}"]`);
const tab = (name) => page.getByRole("tab", { name }).click();
const shot = async (name) => {
  await settled();
  await page.waitForTimeout(250);
  await page.screenshot({ path: join(folder, `${name}.png`) });
};
const cursor = () => page.evaluate(() => [...globalThis.studio.state.cursor]);
const count = () => page.evaluate(() => globalThis.studio.state.annotations.length);
const saved = () => page.waitForFunction(() => document.querySelector(".saved")?.textContent === "all saved");
const open = async (index) => {
  const names = await page.getByLabel("Tomogram", { exact: true }).locator("option").allTextContents();
  await page.getByLabel("Tomogram", { exact: true }).selectOption(names.at(index));
  await page.waitForFunction((name) => globalThis.studio.state.tomogram?.name === name, names.at(index));
  await settled();
  return names.at(index);
};
const jobDone = (stage) =>
  page.waitForFunction((text) => document.querySelector(".job-line")?.textContent === text, `${stage}: done`, { timeout: LONG });

try {
  await step("the page opens, and the token leaves the address", async () => {
    await page.goto(url);
    await ready();
    assert.ok(!page.url().includes("token"), page.url());
    await settled();
    await shot("look");
  });

  await step("the wheel scrolls, and the other views follow the cursor", async () => {
    const before = await cursor();
    await view("XY").hover();
    await page.mouse.wheel(0, 120);
    await page.waitForFunction((z) => globalThis.studio.state.cursor[2] > z, before[2]);
    await settled();
    await view("XY").focus();
    await page.keyboard.press("Shift+ArrowRight");
    const after = await cursor();
    assert.equal(after[0], Math.min(63, before[0] + 10));
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keys" }).waitFor();
    await page.keyboard.press("Escape");
  });

  const name = await open(-1);
  const file = await page.evaluate(() => globalThis.studio.state.tomogram.annotations);
  let before = 0;

  await step("three particles are annotated, moved, undone, and found after a reload", async () => {
    await tab("Annotate");
    before = await count();
    const box = await view("XY").boundingBox();
    for (const [dx, dy] of [[0.2, 0.25], [0.8, 0.22], [0.78, 0.8]]) {
      // Places where no particle is: the click must add one.
      const n = await count();
      for (let i = 0; i < 6 && (await count()) === n; i++) {
        await page.mouse.click(box.x + box.width * (0.5 + (dx - 0.5) * 0.8) + 11 * i, box.y + box.height * dy);
      }
      assert.equal(await count(), n + 1);
    }
    const dropped = await page.evaluate(() => globalThis.studio.state.annotations.at(-1));
    const { zoom, centre } = await page.evaluate(() => ({ ...globalThis.studio.state }));
    const at = [box.x + box.width / 2 + (dropped.x - centre[0]) * zoom, box.y + box.height / 2 + (dropped.y - centre[1]) * zoom];
    await page.mouse.move(...at);
    await page.mouse.down();
    await page.mouse.move(at[0] - 5 * zoom, at[1], { steps: 4 });
    await page.mouse.up();
    const moved = await page.evaluate(() => globalThis.studio.state.annotations.at(-1));
    assert.ok(Math.abs(moved.x - (dropped.x - 5)) < 0.6 && moved.z === dropped.z, JSON.stringify([dropped, moved]));
    await page.keyboard.press("Control+z");
    assert.deepEqual(await page.evaluate(() => globalThis.studio.state.annotations.at(-1)), dropped);
    await page.keyboard.press("Control+z");
    assert.equal(await count(), before + 2);
    await page.keyboard.press("Control+Shift+z");
    await page.keyboard.press("Control+Shift+z");
    assert.equal(await count(), before + 3);
    const last = await page.evaluate(() => globalThis.studio.state.annotations.at(-1));
    await saved();
    await shot("annotate");
    await page.reload();
    await ready();
    await open(-1);
    assert.equal(await count(), before + 3);
    assert.deepEqual(await page.evaluate(() => globalThis.studio.state.annotations.at(-1)), last);
  });

  await step("a row of the table leads to its place", async () => {
    await tab("Annotate");
    await page.getByRole("table", { name: "Annotated particles" }).locator("tbody tr").last().click();
    const last = await page.evaluate(() => globalThis.studio.state.annotations.at(-1));
    assert.deepEqual(await cursor(), [last.x, last.y, last.z].map(Math.round));
    await page.keyboard.press("Delete");
    assert.equal(await count(), before + 2);
    await page.keyboard.press("Control+z");
    await saved();
  });

  await step("a list that changed outside is not overwritten", async () => {
    const path = join(project, file);
    const text = readFileSync(path, "utf8");
    writeFileSync(path, text.replace(/<object [^>]*\/>\s*(?!<object)/, ""));
    await view("XY").focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog", { name: "The list was changed outside" }).waitFor();
    await shot("conflict");
    await page.getByRole("button", { name: /^Theirs/ }).click();
    await page.waitForFunction((n) => globalThis.studio.state.annotations.length === n, before + 2);
    writeFileSync(path, text);
  });

  await step("targets of points and half resolution are written to the project, and taken back", async () => {
    await tab("Run");
    const holds = async (label, value, line, there) => {
      await page.getByLabel(label, { exact: true }).selectOption(value);
      for (let tries = 0; tries < 100 && there !== readFileSync(join(project, "deepfinder.toml"), "utf8").includes(line); tries++) await page.waitForTimeout(50);
      assert.equal(readFileSync(join(project, "deepfinder.toml"), "utf8").includes(line), there, `${label} ${value}`);
    };
    await holds("Targets", "points", "\npoints = true", true);
    await holds("Resolution", "half", 'head = "half"', true);
    await shot("points");
    await holds("Targets", "spheres", "\npoints = true", false);
    await holds("Resolution", "full", 'head = "full"', true);
  });

  await step("a few iterations are trained, and the curve grows", async () => {
    await tab("Run");
    for (const [label, value] of [["Epochs", "4"], ["Iterations / epoch", "2"], ["Batch", "1"], ["Patch", "16"]]) {
      await page.getByLabel(label, { exact: true }).fill(value);
      await page.getByLabel(label, { exact: true }).press("Enter");
      await page.waitForTimeout(150);
    }
    await page.getByRole("button", { name: "Train", exact: true }).click();
    const points = () =>
      page.evaluate(() => Math.max(0, ...[...document.querySelectorAll("#pane-run svg[data-points]")].map((svg) => Number(svg.dataset.points))));
    await page.waitForFunction(() => document.querySelector("#pane-run svg[data-points]:not([data-points='0'])"), undefined, { timeout: LONG });
    const few = await points();
    await page.waitForFunction((few) => Math.max(...[...document.querySelectorAll("#pane-run svg[data-points]")].map((svg) => Number(svg.dataset.points))) > few, few, { timeout: LONG });
    await jobDone("train");
    assert.ok((await page.locator("#pane-run .command pre").first().textContent()).includes("deepfinder train"));
    await page.locator("#pane-run .curves").scrollIntoViewIfNeeded();
    await shot("train");
  });

  await step("a tomogram is segmented, and the labels lie over it", async () => {
    await page.getByRole("button", { name: "Segment this tomogram" }).click();
    await jobDone("segment");
    await page.waitForFunction(() => globalThis.studio.state.tomogram.layers.some((layer) => layer.name === "labels"));
    await settled();
    await page.getByLabel("Label surfaces in 3D").check();
    await page.waitForTimeout(1000);
    await shot("segment");
  });

  await step("the truth as a label map makes surfaces", async () => {
    await open(0);
    await page.getByLabel("Labels", { exact: true }).selectOption({ label: "target" });
    await settled();
    await page.waitForTimeout(1500);
    await shot("surfaces");
    await page.getByLabel("Label surfaces in 3D").uncheck();
    await open(-1);
  });

  await step("sliders of picking show their effect at once", async () => {
    await page.getByLabel("Method", { exact: true }).selectOption("components");
    const summary = page.locator(".pick > p");
    await page.waitForFunction(() => /kept/.test(document.querySelector(".pick > p").textContent), undefined, { timeout: LONG });
    const size = page.getByLabel("Smallest cluster (voxels)");
    await size.focus();
    const few = Number(/^(\d+) of/.exec(await summary.textContent())[1]);
    await page.keyboard.press("End");
    await page.keyboard.press("Home");
    await page.waitForFunction((few) => Number(/^(\d+) of/.exec(document.querySelector(".pick > p").textContent)?.[1]) > few, few);
    const all = await summary.textContent();
    await page.keyboard.press("End");
    await page.waitForFunction((text) => document.querySelector(".pick > p").textContent !== text, all);
    // Few are left: specks by the thousand are slow to draw without a graphics card.
    await page.locator(".pick").scrollIntoViewIfNeeded();
    await shot("pick");
    await page.getByRole("button", { name: "Pick and keep" }).click();
    await jobDone("pick");
  });

  await step("scores and consensus of two lists", async () => {
    await tab("Compare");
    await page.getByLabel("Distance").fill("5");
    await page.getByRole("button", { name: "Score B against A" }).click();
    await page.getByRole("table", { name: "Scores" }).waitFor();
    await page.getByRole("button", { name: "Consensus of A and B" }).click();
    await page.getByRole("table", { name: "Consensus" }).waitFor();
    await shot("compare");
  });

  await step("picks are accepted and rejected with one key", async () => {
    await tab("Curate");
    // What was simulated stands in for good picks.
    await page.getByLabel("Picks to look through").selectOption(file);
    await page.locator(".crop").first().waitFor();
    await view("XY").focus();
    await page.keyboard.press("a");
    await page.keyboard.press("a");
    await page.keyboard.press("r");
    await saved();
    assert.equal(await page.locator(".crop[data-verdict=accepted]").count(), 2);
    assert.equal(await page.locator(".crop[data-verdict=rejected]").count(), 1);
    await shot("curate");
    const accepted = readFileSync(join(project, `output/accepted/${name}.xml`), "utf8");
    assert.equal(accepted.match(/<object /g).length, 2);
  });

  await step("a list is exported for RELION 5, and the view as a picture", async () => {
    await tab("Export");
    await page.getByRole("button", { name: "Export list" }).click();
    const link = page.getByRole("link", { name: "Save a copy on this computer" });
    await link.waitFor();
    const [download] = await Promise.all([page.waitForEvent("download"), link.click()]);
    const text = readFileSync(await download.path(), "utf8");
    assert.ok(text.includes("_rlnCenteredCoordinateXAngst"), text.slice(0, 300));
    const [picture] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: /present view/ }).click()]);
    await picture.saveAs(join(folder, "view.png"));
    assert.ok(readFileSync(join(folder, "view.png")).length > 20_000);
    await shot("export");
  });

  await step("no request leads out of the project", async () => {
    for (const path of ["../../../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd"]) {
      const status = await page.evaluate(async (path) => (await fetch(`/api/file?path=${path}`)).status, path);
      assert.equal(status, 404, path);
    }
    const other = await context.newPage();
    const strange = url.split("/?")[0];
    await other.goto("about:blank");
    const answer = await other.evaluate((address) => fetch(`${address}/api/project`, { credentials: "include" }).then((r) => r.status, () => "refused"), strange);
    assert.equal(answer, "refused");
    await other.close();
  });

  await step("everything has a name, text is legible, and keys reach all", async () => {
    for (const mode of ["Look", "Annotate", "Curate", "Run", "Compare", "Export"]) {
      await tab(mode);
      await page.waitForTimeout(200);
      const poor = await page.evaluate(() => {
        const found = [];
        const visible = (element) => element.checkVisibility() && element.getClientRects().length > 0;
        for (const control of document.querySelectorAll("button, input, select, a, canvas[tabindex]")) {
          if (!visible(control)) continue;
          const named = control.getAttribute("aria-label") || control.labels?.[0]?.textContent || control.textContent;
          if (!named?.trim()) found.push(`no name: ${control.outerHTML.slice(0, 120)}`);
        }
        const numbers = (text) => text.match(/[\d.]+/g).map(Number);
        const luminance = ([r, g, b]) => {
          const linear = [r, g, b].map((c) => ((c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
          return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        };
        const back = (element) => {
          for (let each = element; each; each = each.parentElement) {
            const colour = numbers(getComputedStyle(each).backgroundColor);
            if ((colour[3] ?? 1) > 0.5) return colour;
          }
          return [0, 0, 0];
        };
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
          const element = walker.currentNode.parentElement;
          if (!walker.currentNode.textContent.trim() || !visible(element) || element.disabled) continue;
          const [a, b] = [numbers(getComputedStyle(element).color), back(element)].map(luminance).sort((x, y) => y - x);
          const ratio = (a + 0.05) / (b + 0.05);
          if (ratio < 4.5) found.push(`contrast ${ratio.toFixed(2)}: ${element.outerHTML.slice(0, 120)}`);
        }
        return found;
      });
      assert.deepEqual(poor, [], mode);
    }
    await page.getByRole("tab", { name: "Export" }).focus();
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.locator("[role=tab][aria-selected=true]").textContent(), "Look");
    const reached = new Set();
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press("Tab");
      reached.add(await page.evaluate(() => document.activeElement?.dataset.view ?? ""));
    }
    for (const name of ["XY", "ZY", "XZ", "3D"]) assert.ok(reached.has(name), `${name} is not reached`);
  });

  await step("a killed server loses nothing that was acknowledged", async () => {
    await tab("Annotate");
    const n = await count();
    await view("ZY").focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction((n) => globalThis.studio.state.annotations.length === n + 1, n);
    await saved();
    server.kill("SIGKILL");
    const written = readFileSync(join(project, file), "utf8").match(/<object /g).length;
    assert.equal(written, n + 1);
  });

  await step("a single tomogram opens as well", async () => {
    const alone = join(folder, "alone.mrc");
    writeFileSync(alone, readFileSync(join(project, await page.evaluate(() => globalThis.studio.state.tomogram.file))));
    ({ server, url } = await start(alone));
    await page.goto(url);
    await ready();
    await tab("Run");
    await page.getByText("belongs to no project yet").waitFor();
    await shot("alone");
  });

  assert.deepEqual(mistakes, []);
  console.log(`${passed} passed, 0 failed`);
} catch (error) {
  await page.screenshot({ path: join(folder, "failed.png") }).catch(() => {});
  console.error(error, mistakes);
  console.log(`${passed} passed, 1 failed`);
  process.exitCode = 1;
} finally {
  await browser.close();
  server.kill();
}
