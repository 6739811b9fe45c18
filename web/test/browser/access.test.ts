/* Everybody can use it: by keyboard, on a small screen, with a reader, in light and dark. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { openTab, tooWide } from './bed.ts';
import { cluster, pageTest, step } from './setup.ts';

let id = 0;

step('there is something to look at', async () => {
  id = await cluster.submit('mynode::0,1', ['sh', '-c', 'echo a-rather-long-line-$(seq 1 200 | tr -d "\\n"); sleep 600'], ['--name', 'a-name-that-is-long-and-has-no-space-in-it-anywhere-at-all']);
  await cluster.do('wait_state', [id, 'running']);
});

const views = (): [string, string][] => [
  ['/', '.cell'],
  ['/?view=dense', '.cell'],
  ['/nodes', '.list tbody tr'],
  ['/nodes/mynode', 'canvas'],
  ['/nodes/mynode/gpus/0', 'canvas'],
  ['/tasks', '.list tbody tr'],
  [`/tasks/${id}`, '.line'],
  ['/submit?gpu=mynode%3A%3A0', '.pick'],
  ['/vps', '.empty'],
  ['/audit', '.events, .empty'],
];

interface Violation {
  id: string;
  impact: string;
  nodes: { target: string[]; failureSummary: string }[];
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

for (const scheme of ['light', 'dark'] as const) {
  void test(`axe has no serious finding in any view, ${scheme}`, { timeout: 120000 }, async () => {
    const { page, context } = await openTab(cluster.url, { colorScheme: scheme });
    const found: string[] = [];
    for (const [path, ready] of views()) {
      await page.goto(cluster.url + path);
      await page.locator(ready).first().waitFor();
      await page.evaluate(axe);
      const violations = await page.evaluate(async () => {
        const run = (window as unknown as { axe: { run: (options: object) => Promise<{ violations: Violation[] }> } }).axe.run;
        return (await run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] })).violations;
      });
      for (const v of violations) if (['serious', 'critical'].includes(v.impact)) found.push(`${path}: ${v.id}: ${v.nodes[0]!.target.join(' ')}: ${v.nodes[0]!.failureSummary}`);
    }
    await context.close();
    assert.deepEqual(found, []);
  });
}

void test('axe has no serious finding in the dialogs', { timeout: 60000 }, async () => {
  const { page, context } = await openTab(`${cluster.url}/nodes/mynode`);
  await page.getByRole('button', { name: 'Drain' }).click();
  await page.getByRole('dialog').waitFor();
  await page.evaluate(axe);
  const violations = await page.evaluate(() => (window as unknown as { axe: { run: () => Promise<{ violations: Violation[] }> } }).axe.run().then((r) => r.violations.filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) => v.id)));
  await context.close();
  assert.deepEqual(violations, []);
});

void test('no view is wider than a phone', { timeout: 60000 }, async () => {
  const { page, context } = await openTab(cluster.url, { viewport: { width: 380, height: 760 } });
  const found: string[] = [];
  for (const [path, ready] of views()) {
    await page.goto(cluster.url + path);
    await page.locator(ready).first().waitFor();
    for (const what of await tooWide(page)) found.push(`${path}: ${what}`);
  }
  await context.close();
  assert.deepEqual(found, []);
});

pageTest('keys lead everywhere', '/', async ({ page }) => {
  await page.locator('.cell').first().waitFor();
  for (const [key, heading] of [['n', 'Nodes'], ['t', 'Tasks'], ['s', 'Submit a task'], ['v', 'Virtual machines'], ['a', 'Audit log'], ['c', 'Cluster']] as const) {
    await page.keyboard.press('g');
    await page.keyboard.press(key);
    await page.getByRole('heading', { name: heading, level: 1 }).waitFor();
  }
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  await page.keyboard.press('/');
  await page.keyboard.type('node2g');
  assert.equal(await page.getByLabel('Search for a card').inputValue(), 'node2g', 'keys are letters in a field');
  await page.getByLabel('Search for a card').fill('');
  await page.keyboard.press('Escape');
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), 'BODY');
});

pageTest('arrows go through the grid, Enter opens a card', '/', async ({ page }) => {
  const first = page.locator('.node-row', { hasText: 'mynode' }).locator('.cell').first();
  await first.waitFor();
  const label = () => page.evaluate(() => document.activeElement?.getAttribute('href') ?? '');
  assert.equal(await page.locator('.cell[tabindex="0"]').count(), 1, 'one stop for Tab');
  await first.focus();
  await page.keyboard.press('ArrowRight');
  assert.match(await label(), /mynode\/gpus\/1$/);
  await page.keyboard.press('ArrowDown');
  assert.match(await label(), /node2\/gpus\/1$/);
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('ArrowLeft');
  assert.match(await label(), /mynode\/gpus\/0$/);
  assert.equal(await page.locator('.cell[tabindex="0"]').count(), 1);
  await page.keyboard.press('Enter');
  await page.waitForURL('**/nodes/mynode/gpus/0');
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'content', 'the new view has the focus');
}, { viewport: { width: 900, height: 800 } });

pageTest('where nodes stand side by side, down is down and not aside', '/?view=dense', async ({ page }) => {
  await page.locator('.cell').nth(5).waitFor();
  const focused = () => page.evaluate(() => ({ href: document.activeElement!.getAttribute('href'), y: document.activeElement!.getBoundingClientRect().y }));
  await page.locator('.node-row', { hasText: 'mynode' }).locator('.cell').nth(3).focus();
  const first = await focused();
  await page.keyboard.press('ArrowDown');
  assert.deepEqual(await focused(), first, 'there is nothing below');
  await page.keyboard.press('ArrowRight');
  const aside = await focused();
  assert.deepEqual([aside.href, aside.y], ['/nodes/node2/gpus/0', first.y]);
  await page.keyboard.press('ArrowLeft');
  await page.setViewportSize({ width: 300, height: 800 });
  const narrow = await focused();
  await page.keyboard.press('ArrowDown');
  const below = await focused();
  assert.deepEqual([below.href?.startsWith('/nodes/node2/'), below.y > narrow.y], [true, true]);
});

pageTest('colours are not all: each state has a pattern of its own and a word', '/', async ({ page }) => {
  await page.locator('.cell').first().waitFor();
  const looks = await page.evaluate(() => {
    const states = ['free', 'leased', 'in_use', 'draining', 'foreign', 'orphaned', 'switching', 'vfio', 'quarantined', 'unknown', 'bare', 'removed'];
    return states.map((state) => {
      const chip = document.createElement('span');
      const swatch = document.createElement('span');
      chip.className = `s-${state}`;
      swatch.className = 'swatch';
      chip.append(swatch);
      document.body.append(chip);
      const { backgroundImage, boxShadow, borderStyle } = getComputedStyle(swatch);
      return [backgroundImage, boxShadow.replace(/rgba?\([^)]*\)/g, ''), borderStyle].join(' ');
    });
  });
  assert.equal(new Set(looks).size, looks.length);
});

step('what was looked at is ended', () => cluster.do('kill_everything'));
