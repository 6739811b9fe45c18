/* What the dashboard costs a browser, at KR_URL: one line of JSON. With KR_TASKS the list of tasks too, when there are enough.
 * Called by tests/bench/dashboard.py on a cluster under load. */
import { readdirSync, readFileSync } from 'node:fs';
import type { CDPSession, Page } from 'playwright-core';
import { closeBrowser, openTab } from './bed.ts';

const url = process.env['KR_URL']!;
const CARDS = Number(process.env['KR_CARDS'] ?? 1600);
const SECONDS = Number(process.env['KR_SECONDS'] ?? 20);

/** Milliseconds after the navigation began until a script in the page says that it is complete. */
async function complete(page: Page, selector: string, n: number): Promise<number> {
  await page.addInitScript(
    ([wanted, count]) => {
      const look = (): void => {
        if (document.querySelectorAll(wanted as string).length >= Number(count)) requestAnimationFrame(() => ((window as unknown as { doneMs: number }).doneMs = performance.now()));
        else requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    },
    [selector, n],
  );
  await page.goto(url + (selector === '.cell' ? '/' : '/tasks'));
  const done = await page.waitForFunction(() => (window as unknown as { doneMs?: number }).doneMs, undefined, { timeout: 60000 });
  return Number(await done.jsonValue());
}

const firstPaint = (page: Page): Promise<number> => page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1);

/** Seconds of processor time that all processes below this one have used: the browser's. */
function browserSeconds(): number {
  const stats = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ');
        return [{ pid: Number(pid), parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) }];
      } catch {
        return []; // it has ended meanwhile
      }
    });
  const ours = new Set([process.pid]);
  for (let n = 0; n !== ours.size; ) {
    n = ours.size;
    stats.forEach((s) => ours.has(s.parent) && ours.add(s.pid));
  }
  return stats.filter((s) => s.pid !== process.pid && ours.has(s.pid)).reduce((sum, s) => sum + s.ticks / 100, 0);
}

interface Load {
  main: number;
  /** Everything: page, shared worker, painting in software. */
  browser: number;
  script: number;
  layout: number;
  heapMib: number;
}

/** Shares of a core that the page's main thread is busy, in percent. */
async function busy(cdp: CDPSession, page: Page): Promise<Load> {
  const look = async () => Object.fromEntries((await cdp.send('Performance.getMetrics')).metrics.map((m) => [m.name, m.value]));
  const before = await look();
  const cpu = browserSeconds();
  await page.waitForTimeout(SECONDS * 1000);
  const after = await look();
  const share = (name: string): number => (100 * (after[name]! - before[name]!)) / (after['Timestamp']! - before['Timestamp']!);
  return {
    main: share('TaskDuration'),
    browser: (100 * (browserSeconds() - cpu)) / (after['Timestamp']! - before['Timestamp']!),
    script: share('ScriptDuration'), layout: share('LayoutDuration') + share('RecalcStyleDuration'), heapMib: after['JSHeapUsedSize']! / 2 ** 20 };
}

async function measure(selector: string, n: number, body?: (page: Page, cdp: CDPSession) => Promise<Load>) {
  const { page, context } = await openTab('about:blank');
  const cdp = await context.newCDPSession(page);
  await cdp.send('Performance.enable');
  const gridMs = await complete(page, selector, n);
  const paintMs = await firstPaint(page);
  const load = body && (await body(page, cdp));
  await context.close();
  return { gridMs, paintMs, load };
}

await measure('.cell', CARDS); // the browser itself has warmed up
const grid = await measure('.cell', CARDS, (page, cdp) => busy(cdp, page));
const tasks = process.env['KR_TASKS'] ? await measure('.list tbody tr', 50) : undefined;
console.log(JSON.stringify({ paint_ms: grid.paintMs, grid_ms: grid.gridMs, tasks_ms: tasks?.gridMs, ...grid.load }));
await closeBrowser();
