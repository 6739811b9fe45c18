/* Host, node or stream are gone for a while: what is shown says how old it is, and comes back by itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openTab } from './bed.ts';
import { StreamProxy } from './proxy.ts';
import { cluster, pageTest } from './setup.ts';

pageTest('a host restart while the page is open', '/', async ({ page }) => {
  await page.locator('.cell').first().waitFor();
  await cluster.do('host_kill');
  await page.getByText(/Host unreachable, retrying in \d s/).waitFor();
  await page.getByText(/Shown is what was known at .*, \d+\ss ago/).waitFor();
  assert.match(await page.locator('main').evaluate((main) => getComputedStyle(main).filter), /grayscale/);
  assert.ok((await page.locator('.cell').count()) >= 6, 'what was known stays');
  await cluster.do('host_start');
  await page.getByText('Host unreachable').waitFor({ state: 'detached' });
  assert.equal(await page.locator('main').evaluate((main) => getComputedStyle(main).filter), 'none');
  await cluster.do('change_gpu', ['mynode', 0], { utilization: 31 });
  await page.getByRole('link', { name: /^GPU 0 of mynode/ }).getByText('31 %').waitFor();
  await cluster.do('change_gpu', ['mynode', 0], { utilization: 0 });
});

void test('a page that is opened while the host is away shows itself when it is back', { timeout: 60000 }, async () => {
  const { page, context } = await openTab(`${cluster.url}/tasks`);
  await page.getByRole('heading', { name: 'Tasks' }).waitFor();
  await cluster.do('host_kill');
  await page.getByText('Host unreachable').waitFor();
  await page.getByLabel('State').selectOption('failed');
  await page.getByText('the host cannot be reached').waitFor();
  await cluster.do('host_start');
  await page.getByText('the host cannot be reached').waitFor({ state: 'detached' });
  await page.getByText('exit code 3').first().waitFor();
  await context.close();
});

pageTest('a node that falls silent: its task is lost, its cards are grey, an operator can give up the lease', '/', async ({ page, context }) => {
  const id = await cluster.submit('node2::0', ['sleep', '600'], ['--name', 'on a silent node']);
  await cluster.do('wait_state', [id, 'running']);
  await cluster.do('runner_kill', ['node2']);
  await page.getByRole('link', { name: /^GPU 0 of node2: .*on a silent node.*, node is silent/ }).waitFor();
  await page.locator('.node-row', { hasText: 'node2' }).getByText(/silent, seen/).waitFor();
  const task = await context.newPage();
  await task.goto(`${cluster.url}/tasks/${id}`);
  await task.locator('.view-head .badge', { hasText: 'lost' }).waitFor();
  await task.getByRole('button', { name: 'Force release' }).click();
  await task.getByLabel('Who gives the order').fill('ops');
  await task.getByLabel('Reason').fill('the node burnt down');
  await task.getByRole('dialog').getByRole('button', { name: 'Force release' }).click();
  await task.getByRole('region', { name: 'What happened' }).getByText(/released by ops while its node was silent/).waitFor();
  await task.getByRole('region', { name: 'Orders of operators' }).getByText(/the node burnt down/).waitFor();
  await cluster.do('runner_start', ['node2']);
  await page.getByRole('link', { name: /^GPU 1 of node2: free$/ }).waitFor();
});

void test('a stream that falls silent is given up, also where there are no shared workers', { timeout: 60000 }, async () => {
  const proxy = new StreamProxy(() => cluster.url);
  const url = await proxy.start();
  const { page, context } = await openTab('about:blank');
  await page.addInitScript(() => Reflect.deleteProperty(window, 'SharedWorker'));
  await page.clock.install();
  try {
    await page.goto(url);
    await page.locator('.cell').first().waitFor();
    assert.equal(proxy.open, 1);
    proxy.isFrozen = true;
    await page.clock.runFor(20000);
    assert.equal(await page.getByText('Host unreachable').count(), 0);
    await page.clock.runFor(7000);
    await page.getByText('Host unreachable').waitFor();
    proxy.isFrozen = false;
    await page.clock.runFor(4000);
    await page.getByText('Host unreachable').waitFor({ state: 'detached' });
    assert.equal(proxy.open, 1);
    assert.equal(proxy.opened, 2);
  } finally {
    await context.close();
    proxy.stop();
  }
});
