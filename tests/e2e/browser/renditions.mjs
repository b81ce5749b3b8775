// Plays a page in headless Chromium while renditions come and go; the caller makes them do
// so, one step for each line that is printed. The last line is what was seen, as JSON.
//   node renditions.mjs URL RENDITION
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [url, rendition] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), 'headwater-browser-'));
// As browsers are: no sound before a touch.
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const result = {};
const page = await browser.newPage();
try {
  page.on('pageerror', (error) => { result.pageError = String(error); });
  const until = (condition, argument) => page.waitForFunction(condition, argument, { timeout: 60000 });
  await page.goto(url);
  await until(() => window.headwater?.stats().currentTime > 0);
  result.first = await page.evaluate(() => window.headwater.stats());
  result.offered = await page.isVisible('#unmute');
  await page.click('#unmute');
  await page.evaluate(() => {
    window.seen = [];
    setInterval(() => {
      const { state, moment, muted } = window.headwater.stats();
      window.seen.push({ state, moment, muted });
    }, 50);
  });
  console.log('plays the source');

  await until((name) => window.headwater.stats().levels.some((level) => level.name === name), rendition);
  result.came = await page.evaluate(() => window.seen);
  await page.selectOption('#quality', rendition);
  await until(() => window.headwater.stats().videoHeight === 144);
  console.log('plays the rendition');

  await until(() => window.headwater.stats().videoHeight === 360);
  result.without = await page.evaluate(() => window.headwater.stats());
  console.log('plays the source again');

  await until(() => window.headwater.stats().videoHeight === 144);
  result.again = await page.evaluate(() => window.headwater.stats());
  console.log('plays the rendition again');

  await until(() => window.headwater.stats().state === 'ended');
  result.notice = await page.textContent('#notice-text');
} catch (error) {
  console.error(await page.evaluate(() => JSON.stringify(window.headwater.stats())));
  throw error;
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(result));
