/* What happens is seen without loading anything anew, and costs one cell. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openTab, watch } from './bed.ts';
import { StreamProxy } from './proxy.ts';
import { cluster, pageTest } from './setup.ts';

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
