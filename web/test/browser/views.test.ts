/* Every view opens by its address, shows what the host knows, and says so when there is nothing. */
import assert from 'node:assert/strict';
import { cluster, pageTest, step } from './setup.ts';

let taskId = 0;

step('a task runs for the views', async () => {
  taskId = await cluster.submit('mynode::0', ['sh', '-c', 'echo hello; sleep 600'], ['--name', 'train-llama']);
  await cluster.do('wait_state', [taskId, 'running']);
  await cluster.do('change_gpu', ['mynode', 0], { utilization: 63, temperature: 71, power_mw: 412345, memory_used_mib: 40000 });
});

pageTest('cluster: a cell for each card, with its holder and its figures', '/', async ({ page }) => {
  await page.locator('.cell').nth(5).waitFor();
  assert.equal(await page.locator('.node-row').count(), 2);
  const cell = page.getByRole('link', { name: `GPU 0 of mynode: in use, task ${taskId} train-llama` });
  await cell.getByText('63 %').waitFor();
  assert.match(await cell.innerText(), /train-llama/);
  await page.getByText('5 of 6', { exact: true }).waitFor();
  assert.equal(await page.title(), 'Cluster · KohakuRiver');
});

pageTest('cluster: filters stand in the address and narrow the grid down', '/', async ({ page }) => {
  await page.getByLabel('free only').check();
  await page.waitForURL('**/?free=1');
  assert.equal(await page.locator('.cell').count(), 5);
  await page.getByLabel('Node', { exact: true }).selectOption('node2');
  await page.waitForURL('**/?free=1&node=node2');
  assert.equal(await page.locator('.cell').count(), 2);
  await page.getByRole('button', { name: 'Clear' }).click();
  await page.getByLabel('Search for a card').fill('train');
  await page.locator('.node-row').nth(1).waitFor({ state: 'detached' });
  assert.equal(await page.locator('.cell').count(), 1);
  await page.reload();
  await page.locator('.cell').waitFor();
  assert.equal(await page.locator('.cell').count(), 1, 'the address is enough');
  await page.getByLabel('Search for a card').fill('no such thing');
  await page.getByText('No card matches').waitFor();
  await page.getByRole('link', { name: 'Show all cards' }).click();
  await page.getByRole('button', { name: 'in use' }).click();
  await page.waitForURL('**/?state=in_use');
  assert.equal(await page.locator('.cell').count(), 1);
});

pageTest('nodes and one node: cards, topology, memory, tasks, health', '/nodes', async ({ page }) => {
  await page.getByRole('link', { name: 'mynode' }).click();
  await page.waitForURL('**/nodes/mynode');
  await page.getByRole('heading', { name: '3 of 4 GPUs free' }).waitFor();
  assert.equal(await page.locator('.cells .cell').count(), 4);
  const matrix = page.locator('.matrix');
  await matrix.waitFor();
  assert.equal(await matrix.locator('tbody tr').count(), 4);
  await page.getByText('Nothing speaks against any card').waitFor();
  await page.getByRole('table').getByText('train-llama').waitFor();
  await page.getByText('No operator has ordered anything here').waitFor();
  assert.equal(await page.getByRole('region', { name: 'Processors and memory' }).getByRole('row').count(), 3, 'two NUMA nodes');
});

pageTest('node: the doctor looks when asked', '/nodes/mynode', async ({ page }) => {
  const doctor = page.getByRole('region', { name: 'Doctor' });
  await doctor.getByRole('button', { name: 'Look now' }).click();
  await doctor.getByText(/\d+ errors?, \d+ warnings?/).waitFor({ timeout: 30000 });
});

pageTest('one card: holder, figures, way out, leases', '/nodes/mynode/gpus/0', async ({ page }) => {
  await page.getByRole('link', { name: `${taskId} train-llama`, exact: true }).waitFor();
  await page.getByText('Way out: the task ends; task kill ends it').waitFor();
  await page.getByText('71 °C', { exact: true }).waitFor();
  await page.getByText('412 W of 700 W').waitFor();
  const figures = page.getByRole('region', { name: 'Figures' });
  assert.match(await figures.innerText(), /Fan\s+–/, 'what the driver does not tell is not a zero');
  await page.getByRole('region', { name: 'Leases' }).getByText('train-llama').waitFor();
  await page.getByText('No process is on this card').waitFor();
});

pageTest('charts are loaded where they are shown, for each span', '/', async ({ page }) => {
  const scripts: string[] = [];
  page.on('request', (request) => scripts.push(request.url()));
  await page.locator('.cell').first().waitFor();
  assert.equal(scripts.filter((url) => /plot-/.test(url)).length, 0);
  await page.getByRole('link', { name: /^GPU 0 of mynode/ }).click();
  await page.locator('canvas').nth(3).waitFor();
  assert.ok(scripts.some((url) => /plot-.*\.js/.test(url)));
  await page.getByRole('figure', { name: 'Utilisation: last 63 %' }).waitFor();
  for (const [button, span] of [['24 h', '24h'], ['30 d', '30d']] as const) {
    await page.getByRole('button', { name: button }).click();
    await page.waitForURL(`**?span=${span}`);
    await page.locator('canvas').nth(3).waitFor();
  }
});

pageTest('tasks: found by state and by text, with the address to prove it', '/tasks', async ({ page }) => {
  await page.getByRole('link', { name: String(taskId), exact: true }).waitFor();
  await page.getByLabel('State').selectOption('failed');
  await page.getByText('No task matches').waitFor();
  await page.getByLabel('State').selectOption('live');
  await page.getByText('train-llama').waitFor();
  await page.getByLabel('Search: name').fill('no such task');
  await page.waitForURL('**q=no+such+task**');
  await page.getByText('No task matches').waitFor();
  await page.getByLabel('Search: name').fill('LLAMA');
  await page.getByText('train-llama').click();
  await page.waitForURL(`**/tasks/${taskId}`);
});

pageTest('one task: facts and what happened', '/tasks', async ({ page }) => {
  await page.goto(`${cluster.url}/tasks/${taskId}`);
  const facts = page.getByRole('region', { name: 'Facts' });
  await facts.getByText(`sh -c 'echo hello; sleep 600'`).waitFor();
  const events = page.getByRole('region', { name: 'What happened' });
  await events.getByText('running').waitFor();
  const time = events.locator('time').first();
  assert.match((await time.getAttribute('title'))!, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC$/, 'the exact UTC');
});

pageTest('machines and audit say that there is nothing', '/vps', async ({ page }) => {
  await page.getByText('There are none').waitFor();
  await page.getByRole('link', { name: 'Audit' }).click();
  await page.getByText('No operator has ordered anything here').waitFor();
});

pageTest('what is not there is told', '/nodes/nonesuch', async ({ page }) => {
  await page.getByText('There is no node of this name').waitFor();
  await page.goto(`${cluster.url}/nodes/mynode/gpus/99`);
  await page.getByText('There is no such card').waitFor();
  await page.goto(`${cluster.url}/tasks/999999`);
  await page.getByText('there is no task 999999').waitFor();
  await page.goto(`${cluster.url}/vps/999`);
  await page.getByText('There is no such machine').waitFor();
  await page.goto(`${cluster.url}/nonsense`);
  await page.getByText('There is no such page').waitFor();
});

pageTest('going back and forth shows the view of the address', '/', async ({ page }) => {
  await page.getByRole('link', { name: 'Tasks' }).click();
  await page.getByRole('heading', { name: 'Tasks' }).waitFor();
  await page.goBack();
  await page.locator('.cell').first().waitFor();
  await page.goForward();
  await page.getByRole('heading', { name: 'Tasks' }).waitFor();
});

step('the views are left as they were found', async () => {
  await cluster.do('change_gpu', ['mynode', 0], { utilization: 0, temperature: 29, power_mw: 70089, memory_used_mib: 4 });
  await cluster.do('kill_everything');
});
