/* Orders are confirmed, given, and seen to be carried out. */
import assert from 'node:assert/strict';
import { cluster, pageTest, step } from './setup.ts';

pageTest('a task is paused, resumed and killed', '/', async ({ page }) => {
  const id = await cluster.submit('mynode::0', ['sleep', '600']);
  await page.goto(`${cluster.url}/tasks/${id}`);
  const badge = (state: string) => page.locator('.view-head .badge', { hasText: state }).waitFor();
  await badge('running');
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByText('It keeps its GPUs').waitFor();
  await page.getByRole('button', { name: 'Cancel' }).click();
  assert.equal((await cluster.api<{ state: string }>(`/tasks/${id}`)).state, 'running', 'nothing happens without a yes');
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Pause' }).click();
  await badge('paused');
  await page.getByRole('button', { name: 'Resume' }).click();
  await badge('running');
  await page.getByRole('button', { name: 'Kill' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Kill' }).click();
  await badge('killed');
  await page.getByText('released').first().waitFor();
  assert.equal(await page.getByRole('button', { name: 'Kill' }).count(), 0);
});

pageTest('a node is cordoned with a reason, drained, and given back', '/nodes/node2', async ({ page }) => {
  await page.getByRole('button', { name: 'Cordon' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Cordon' }).click();
  assert.equal(await dialog.isVisible(), true, 'who gives it must be said');
  await page.getByLabel('Who gives the order').fill('ops');
  await page.getByLabel('Reason').fill('new fans');
  await dialog.getByRole('button', { name: 'Cordon' }).click();
  await page.getByText(/cordoned by ops since .*: new fans/).waitFor();
  await page.getByRole('link', { name: 'GPU 0 of node2: cordoned' }).waitFor();
  await page.getByText('Nothing speaks against any card').waitFor();
  await page.getByRole('button', { name: 'Drain' }).click();
  assert.equal(await page.getByLabel('Who gives the order').inputValue(), 'ops', 'the name is remembered');
  await dialog.getByRole('button', { name: 'Drain' }).click();
  await page.getByText(/being drained by ops/).waitFor();
  await page.getByRole('button', { name: 'Uncordon' }).click();
  await dialog.getByRole('button', { name: 'Uncordon' }).click();
  await page.getByText(/being drained by ops/).waitFor({ state: 'detached' });
  const orders = page.getByRole('region', { name: 'Orders of operators' });
  await orders.getByText('node uncordon').waitFor();
  await orders.getByText(/new fans/).waitFor();
  await cluster.do('wait_free', ['node2', 0, 1]);
});

pageTest('an order that is refused says why and leaves the dialog open', '/', async ({ page }) => {
  const id = await cluster.submit('mynode::0', ['sleep', '600']);
  await cluster.do('wait_state', [id, 'running']);
  await page.route('**/kill', (route) => route.fulfill({ status: 409, json: { error: { code: 'refused', message: 'not today' } } }));
  await page.goto(`${cluster.url}/tasks/${id}`);
  await page.getByRole('button', { name: 'Kill' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Kill' }).click();
  await page.getByRole('dialog').getByText('not today').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
});

step('what was ordered is over', () => cluster.do('kill_everything'));
