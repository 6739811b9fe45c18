/* What happens is seen without loading anything anew, and costs one cell. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Page } from 'playwright-core';
import { openTab, watch } from './bed.ts';
import { StreamProxy } from './proxy.ts';
import { cluster, pageTest, step } from './setup.ts';

pageTest('a figure that changes draws its own cell anew and no other', '/', async ({ page }) => {
  await page.locator('.cell').nth(5).waitFor();
  await page.evaluate(() => {
    const touched = new Set<string>();
    (window as unknown as { touched: Set<string> }).touched = touched;
    new MutationObserver((changes) => {
      for (const change of changes) {
        const element = change.target instanceof Element ? change.target : change.target.parentElement;
        const cell = element?.closest('.cell')?.getAttribute('href');
        if (cell) touched.add(cell);
      }
    }).observe(document.querySelector('.grid')!, { subtree: true, childList: true, characterData: true, attributes: true });
  });
  await cluster.do('change_gpu', ['mynode', 2], { utilization: 42 });
  await page.getByRole('link', { name: /^GPU 2 of mynode/ }).getByText('42 %').waitFor();
  const touched = await page.evaluate(() => [...(window as unknown as { touched: Set<string> }).touched]);
  assert.deepEqual(touched, ['/nodes/mynode/gpus/2']);
  await cluster.do('change_gpu', ['mynode', 2], { utilization: 0 });
});

pageTest('a task that is submitted elsewhere appears in list and grid, and goes', '/tasks?status=live', async ({ page, context }) => {
  await page.getByText('No task matches').waitFor();
  const grid = await context.newPage();
  await grid.goto(cluster.url);
  await grid.getByText('6 of 6').waitFor();
  const id = await cluster.submit('node2::1', ['sleep', '600'], ['--name', 'from elsewhere']);
  await page.getByText('from elsewhere').waitFor();
  await page.locator('.badge', { hasText: 'running' }).waitFor();
  await grid.getByRole('link', { name: new RegExp(`^GPU 1 of node2: in use, task ${id} from elsewhere`) }).waitFor();
  await cluster.do('kill_everything');
  await page.getByText('No task matches').waitFor();
  await grid.getByRole('link', { name: 'GPU 1 of node2: free' }).waitFor();
});

/** "12 in all" or "3 match", as a number. */
async function totalOf(page: Page): Promise<number> {
  return Number((await page.locator('.view-head .sub').innerText()).replace(/\D/g, ''));
}

function totalText(page: Page, n: number): Promise<void> {
  return page.locator('.view-head .sub', { hasText: new RegExp(`^${n} `) }).waitFor();
}

pageTest('what happens while the list of tasks is on its way is in the list', '/', async ({ page, context }) => {
  const first = await cluster.submit('node2::0', ['sleep', '600'], ['--name', 'starts meanwhile']);
  const other = await context.newPage();
  await other.goto(`${cluster.url}/tasks`);
  await other.getByText('starts meanwhile').waitFor();
  const before = await totalOf(other);
  let isHeld = (): void => undefined;
  let letGo = (): void => undefined;
  const held = new Promise<void>((resolve) => (isHeld = resolve));
  const gate = new Promise<void>((resolve) => (letGo = resolve));
  await page.route(
    '**/api/v1/tasks?*',
    async (route) => {
      const response = await route.fetch();
      const body = (await response.json()) as { tasks: { id: number; state: string; revision: number }[] };
      // As if the host had answered a little earlier than it did.
      for (const task of body.tasks) if (task.id === first) Object.assign(task, { state: 'pending', revision: 1 });
      isHeld();
      await gate;
      await route.fulfill({ response, json: body });
    },
    { times: 1 },
  );
  await page.getByRole('link', { name: 'Tasks' }).click();
  await held;
  await cluster.do('wait_state', [first, 'running']);
  const second = await cluster.submit('node2::1', ['sleep', '600'], ['--name', 'comes meanwhile']);
  await cluster.do('wait_state', [second, 'running']);
  for (const id of [first, second]) {
    await cluster.do('cli', ['task', 'pause', String(id)]); // so that there is a last word on each, and nothing after it
  }
  for (const name of ['starts meanwhile', 'comes meanwhile']) {
    await other.getByRole('row', { name }).locator('.badge', { hasText: 'paused' }).waitFor();
  }
  await page.waitForTimeout(300);
  letGo();
  for (const name of ['starts meanwhile', 'comes meanwhile']) {
    await page.getByRole('row', { name }).locator('.badge', { hasText: 'paused' }).waitFor();
  }
  await totalText(page, before + 1);
  await totalText(other, before + 1);
});

step('nothing runs any more', () => cluster.do('kill_everything'));

pageTest('the number of tasks follows also where they cannot be seen', '/tasks', async ({ page, context }) => {
  const id = await cluster.submit('node2::1', ['false'], ['--name', 'an older one']);
  await cluster.do('wait_released', [id]);
  await page.getByText('an older one').waitFor();
  const total = await totalOf(page);
  const older = await context.newPage();
  await older.goto(`${cluster.url}/tasks?before=${id}`);
  await totalText(older, total);
  const failed = await context.newPage();
  await failed.goto(`${cluster.url}/tasks?status=failed`);
  await failed.getByText('an older one').waitFor();
  const ofFailed = await totalOf(failed);
  await cluster.do('wait_released', [await cluster.submit('node2::1', ['false'], ['--name', 'a newer one'])]);
  await page.getByText('a newer one').waitFor();
  await failed.getByText('a newer one').waitFor();
  await totalText(page, total + 1);
  await totalText(failed, ofFailed + 1);
  await totalText(older, total + 1);
  assert.equal(await older.getByText('a newer one').count(), 0);
});

pageTest('a card fails while the page is open', '/nodes/mynode/gpus/1', async ({ page, context }) => {
  const grid = await context.newPage();
  await grid.goto(cluster.url);
  await grid.getByRole('link', { name: 'GPU 1 of mynode: free' }).waitFor();
  await cluster.do('change_gpu', ['mynode', 1], { xids: [{ seq: 1, code: 95 }] });
  await grid.getByRole('link', { name: /^GPU 1 of mynode: quarantined/ }).waitFor();
  await grid.getByRole('button', { name: 'quarantined' }).waitFor();
  await page.locator('.badge', { hasText: 'quarantined' }).waitFor();
  await page.getByText(/quarantine: XID 95/).waitFor();
  await page.getByText(/Way out: what it needs is done/).waitFor();
  await page.getByText('XID 95, once').waitFor();
  await page.getByRole('button', { name: 'Uncordon' }).click();
  await page.getByLabel('Who gives the order').fill('ops');
  await page.getByLabel('Reason').fill('was reset');
  await page.getByRole('dialog').getByRole('button', { name: 'Uncordon' }).click();
  await page.locator('.badge', { hasText: 'free' }).waitFor();
  await page.getByRole('region', { name: 'Orders of operators' }).getByText('was reset').waitFor();
  await grid.getByRole('link', { name: 'GPU 1 of mynode: free' }).waitFor();
});

pageTest('a node that joins appears', '/', async ({ page }) => {
  await page.locator('.node-row').nth(1).waitFor();
  await cluster.do('add_node', ['a-new.node_3']);
  await page.getByRole('link', { name: 'a-new.node_3', exact: true }).waitFor();
  await page.getByRole('link', { name: 'GPU 1 of a-new.node_3: free' }).click();
  await page.getByRole('heading', { name: /a-new\.node_3.*1/ }).waitFor();
});

void test('two tabs, one stream', { timeout: 60000 }, async () => {
  const proxy = new StreamProxy(() => cluster.url);
  const url = await proxy.start();
  const { page, context, troubles } = await openTab(url);
  try {
    await page.locator('.cell').first().waitFor();
    const second = await context.newPage();
    watch(second, troubles);
    await second.goto(`${url}/nodes`);
    await second.getByRole('link', { name: 'mynode' }).waitFor();
    const third = await context.newPage();
    await third.goto(url);
    await third.locator('.cell').first().waitFor();
    assert.deepEqual([proxy.open, proxy.opened], [1, 1], 'counted on the way to the host');
    await page.close();
    await cluster.do('change_gpu', ['mynode', 3], { utilization: 77 });
    await third.getByRole('link', { name: /^GPU 3 of mynode/ }).getByText('77 %').waitFor();
    assert.deepEqual([proxy.open, proxy.opened], [1, 1]);
    await cluster.do('change_gpu', ['mynode', 3], { utilization: 0 });
    assert.deepEqual(troubles, []);
  } finally {
    await context.close();
    proxy.stop();
  }
});
