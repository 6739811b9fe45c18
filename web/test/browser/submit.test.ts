/* A submission by form ends up running; a refusal appears where it belongs; the command line beside it is the same. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cluster, pageTest, step } from './setup.ts';

pageTest('a form that is filled in becomes a task that runs', '/submit', async ({ page }) => {
  await page.getByLabel('Command', { exact: true }).fill(`sh -c 'echo "it works"; sleep 600'`);
  await page.getByRole('button', { name: /^GPU 1 of mynode: free/ }).click();
  await page.getByRole('button', { name: /^GPU 2 of mynode: free/ }).click();
  await page.getByLabel('Name').fill('by form');
  await page.getByLabel('Owner').fill('ana');
  await page.getByLabel('Memory', { exact: true }).fill('512M');
  const line = await page.locator('.cli').innerText();
  assert.equal(line, `kohakuriver task submit -t mynode::1,2 -m 512M --name 'by form' -- sh -c 'echo "it works"; sleep 600'`);
  const words = execFileSync('/bin/sh', ['-c', `printf '%s\\0' ${line}`]).toString().split('\0');
  assert.equal(words.at(-2), 'echo "it works"; sleep 600', 'a real shell reads it as it is meant');
  await page.getByRole('button', { name: 'Submit', exact: true }).click();
  await page.waitForURL(/\/tasks\/\d+$/);
  await page.locator('.badge', { hasText: 'running' }).waitFor();
  await page.getByText('it works', { exact: true }).waitFor();
  const id = Number(/\d+$/.exec(page.url())![0]);
  const task = await cluster.api<{ state: string; owner: string; memory_bytes: number; gpus: { index: number }[] }>(`/tasks/${id}`);
  assert.deepEqual([task.state, task.owner, task.memory_bytes, task.gpus.map((g) => g.index)], ['running', 'ana', 512 * 2 ** 20, [1, 2]]);
});

pageTest('a card that is held: the picker says who has it, the refusal says why', '/submit', async ({ page }) => {
  await page.getByLabel('Command', { exact: true }).fill('true');
  const card = page.getByRole('button', { name: /^GPU 1 of mynode: in use, task \d+ by form of ana/ });
  await card.click();
  await page.getByText('it would be refused now').waitFor();
  await page.getByRole('button', { name: 'Submit', exact: true }).click();
  const row = page.getByRole('group', { name: 'GPUs of mynode' });
  await row.getByText(/GPU 1 of mynode is held by task \d+ \(by form\)/).waitFor();
  assert.equal(await card.getAttribute('class').then((c) => c!.includes('refused')), true);
  await card.click();
  await row.getByText(/is held by task/).waitFor({ state: 'detached' });
});

pageTest('a refusal that is about a field stands at that field', '/submit', async ({ page }) => {
  await page.getByLabel('Command', { exact: true }).fill('true');
  await page.getByLabel('Cores').fill('4000');
  await page.getByRole('button', { name: 'Submit', exact: true }).click();
  await page.locator('.field', { hasText: 'Cores' }).getByRole('alert').getByText(/4000 cores are asked for/).waitFor();
  assert.equal(await page.getByLabel('Cores').getAttribute('aria-invalid'), 'true');
  await page.getByLabel('Cores').fill('1');
  await page.getByLabel('Mounts').fill('nonsense');
  await page.getByRole('button', { name: 'Submit', exact: true }).click();
  await page.locator('.field', { hasText: 'Mounts' }).getByRole('alert').getByText(/"nonsense" is not of the form/).waitFor();
  await page.getByLabel('Mounts').fill('');
  await page.getByLabel('Further targets').fill('nonesuch::0 mynode::9');
  await page.getByRole('button', { name: 'Submit 2 tasks' }).click();
  await page.getByText('there is no node "nonesuch"').waitFor();
  await page.getByText('mynode has no GPU 9').first().waitFor();
});

pageTest('what cannot be sent is told before it is sent', '/submit', async ({ page }) => {
  const posts: string[] = [];
  page.on('request', (request) => request.method() === 'POST' && posts.push(request.url()));
  await page.getByRole('button', { name: 'Submit', exact: true }).click();
  await page.getByText('a command is needed').waitFor();
  await page.getByLabel('Command', { exact: true }).fill('echo "x');
  await page.getByText('a double quote is not closed').waitFor();
  await page.getByLabel('Command', { exact: true }).fill('echo $HOME | wc');
  await page.getByText('No shell reads this').waitFor();
  await page.getByLabel('run in a shell').check();
  assert.match(await page.locator('.cli').innerText(), /-- sh -c 'echo \$HOME \| wc'$/);
  assert.deepEqual(posts, []);
});

pageTest('one task for each card', '/submit?gpu=mynode%3A%3A0', async ({ page }) => {
  await page.getByLabel('Command', { exact: true }).fill('true');
  assert.equal(await page.getByRole('button', { name: /^GPU 0 of mynode/ }).getAttribute('aria-pressed'), 'true', 'chosen by the address');
  await page.getByRole('button', { name: /^GPU 3 of mynode/ }).click();
  await page.getByLabel('CPUs and memory on mynode').selectOption('0');
  assert.match(await page.locator('.cli').innerText(), /-t mynode:0::0,3 /);
  await page.getByLabel('one task for each GPU').check();
  assert.match(await page.locator('.cli').innerText(), /-t mynode:0::0 -t mynode:0::3 /);
});

step('the submissions are ended', () => cluster.do('kill_everything'));
