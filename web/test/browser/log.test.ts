/* Output is followed as it is written; a huge one costs the page little. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openTab } from './bed.ts';
import { StreamProxy } from './proxy.ts';
import { cluster, pageTest, step } from './setup.ts';

pageTest('a log is followed live, both streams, searched and downloaded', '/', async ({ page }) => {
  const id = await cluster.submit('mynode', ['sh', '-c', 'for i in 1 2 3 4 5 6 7 8; do echo "step $i"; echo "oops $i" >&2; sleep 0.6; done; printf "no end of line"; sleep 2']);
  await page.goto(`${cluster.url}/tasks/${id}`);
  await page.getByText('step 1', { exact: true }).waitFor();
  assert.equal(await page.getByText('step 8', { exact: true }).count(), 0, 'it is still being written');
  await page.getByText('step 4', { exact: true }).waitFor();
  await page.getByText('no end of line').waitFor();
  await page.locator('.badge', { hasText: 'completed' }).waitFor();
  await page.getByText('the end', { exact: true }).waitFor();
  await page.getByLabel('Search in the output').fill('STEP');
  await page.getByText('1 of 8').waitFor();
  await page.keyboard.press('Enter');
  await page.getByText('2 of 8').waitFor();
  assert.equal(await page.locator('.line.hit mark').innerText(), 'step');
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download' }).click()]);
  assert.equal(download.suggestedFilename(), `task-${id}.stdout.log`);
  const chunks: Buffer[] = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk as Buffer);
  assert.match(Buffer.concat(chunks).toString(), /^step 1\nstep 2\n[^]*no end of line$/);
  await page.getByRole('button', { name: 'stderr' }).click();
  await page.getByText('oops 8', { exact: true }).waitFor();
});

pageTest('a huge log: the page stays small, and its end is in sight', '/', async ({ page }) => {
  const id = await cluster.submit('mynode', ['seq', '1', '60000']);
  await page.goto(`${cluster.url}/tasks/${id}`);
  await page.getByText('60000', { exact: true }).waitFor({ timeout: 30000 });
  assert.ok((await page.locator('.line').count()) < 150);
  await page.getByText('60,000 lines').waitFor();
  await page.locator('.log').evaluate((box) => (box.scrollTop = 0));
  await page.getByText('1', { exact: true }).first().waitFor();
  await page.getByRole('button', { name: 'To the end' }).click();
  await page.getByText('60000', { exact: true }).waitFor();
});

void test('a tab that is hidden lets go of its connection, and goes on where it was', { timeout: 60000 }, async () => {
  const id = await cluster.submit('mynode', ['sh', '-c', 'i=0; while true; do i=$((i+1)); echo "line $i"; sleep 0.2; done']);
  const proxy = new StreamProxy(() => cluster.url);
  const { page, context, troubles } = await openTab(`${await proxy.start()}/tasks/${id}`);
  const see = (state: string) =>
    page.evaluate((now) => {
      Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => now });
      document.dispatchEvent(new Event('visibilitychange'));
    }, state);
  try {
    await page.getByText('line 3', { exact: true }).waitFor();
    assert.equal(proxy.logs, 1);
    await see('hidden');
    await page.getByText('waits until it is in sight').waitFor();
    await page.waitForTimeout(500);
    assert.equal(proxy.logs, 0);
    await see('visible');
    await page.getByText('live', { exact: true }).nth(1).waitFor();
    await page.waitForTimeout(1500);
    const lines = await page.locator('.line').allInnerTexts();
    const first = Number(/\d+/.exec(lines[0]!)![0]);
    assert.deepEqual(lines, lines.map((_, i) => `line ${first + i}`), 'no line is missing, none is there twice');
    assert.equal(proxy.logs, 1);
    assert.deepEqual(troubles, []);
  } finally {
    await context.close();
    proxy.stop();
  }
});

pageTest('a task that says nothing', '/', async ({ page }) => {
  const id = await cluster.submit('mynode', ['sh', '-c', 'exit 3']);
  await page.goto(`${cluster.url}/tasks/${id}`);
  await page.getByText('Nothing was written to stdout').waitFor();
  await page.getByText('exit code 3').first().waitFor();
});

step('the tasks with output are over', () => cluster.do('kill_everything'));
