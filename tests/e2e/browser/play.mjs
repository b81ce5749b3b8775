// Plays a page of a node in headless Chromium and prints what came of it as JSON.
//   node play.mjs URL SECONDS [RENDITION [SCREENSHOT]]
// After a third of the time it switches to RENDITION.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [url, seconds, rendition, screenshot] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), 'headwater-browser-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--autoplay-policy=no-user-gesture-required'],
});
const stats = (page) => page.evaluate(() => window.headwater.stats());
const result = { samples: [], requests: [] };
try {
  const page = await browser.newPage();
  page.on('request', (request) => {
    const host = new URL(request.url()).host;
    if (host && host !== new URL(url).host) result.requests.push(request.url());
  });
  page.on('pageerror', (error) => { result.pageError = String(error); });
  await page.goto(url);
  await page.waitForFunction(() => window.headwater?.stats().currentTime > 0, null, { timeout: 60000 });
  if (rendition) {
    await page.waitForFunction(
      (name) => window.headwater.stats().levels.some((level) => level.name === name),
      rendition, { timeout: 60000 });
  }
  result.first = await stats(page);
  for (let second = 0; second < Number(seconds); second += 1) {
    if (rendition && second === Math.floor(seconds / 3)) {
      result.switched = await page.evaluate((name) => {
        const { hls, select } = window.headwater;
        const level = hls.levels.findIndex((one) => one.name === name);
        select(level);
        return { level, width: hls.levels[level].width };
      }, rendition);
    }
    await page.waitForTimeout(1000);
    const { currentTime, videoWidth, state } = await stats(page);
    result.samples.push({ currentTime, videoWidth, state });
  }
  result.last = await stats(page);
  if (screenshot) await page.screenshot({ path: screenshot });
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(result));
