/* What strangers write is text, wherever it is shown. */
import assert from 'node:assert/strict';
import { cluster, pageTest, step } from './setup.ts';

const EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
const EVIL_LINK = 'javascript:window.hacked=1//';
let id = 0;

step('a hostile task runs', async () => {
  const script = `echo '${EVIL}'; echo '\x1b]8;;${EVIL_LINK}\x07click\x1b]8;;\x07'; printf '\\033[31mred\\033[0m\\n'; sleep 600`;
  const body = { targets: ['mynode::0'], command: ['sh', '-c', script], name: EVIL.slice(0, 120), owner: `"><svg onload=window.hacked=1>`, env: [`EVIL=${EVIL}`] };
  const answer = await cluster.api<{ tasks: { id: number }[] }>('/tasks', body);
  id = answer.tasks[0]!.id;
  await cluster.do('wait_state', [id, 'running']);
});

const PATHS = ['/', '/nodes', '/nodes/mynode', '/nodes/mynode/gpus/0', '/tasks', '/submit', `/nodes/${encodeURIComponent(EVIL)}`, `/tasks?q=${encodeURIComponent(EVIL)}`, `/?q=${encodeURIComponent(EVIL)}`];

for (const path of PATHS) {
  pageTest(`hostile names are text at ${path.length > 30 ? path.slice(0, 30) + '…' : path}`, path, async ({ page }) => {
    await page.locator('main h1').waitFor();
    await page.waitForTimeout(300);
    await check(page);
  });
}

pageTest('hostile output, command, variables and owner are text', '/', async ({ page }) => {
  await page.goto(`${cluster.url}/tasks/${id}`);
  await page.locator('.line', { hasText: EVIL }).waitFor();
  await page.locator('.line', { hasText: 'red' }).waitFor();
  assert.equal(await page.locator('.line a').count(), 0);
  await page.getByRole('region', { name: 'Facts' }).getByText('"><svg onload=window.hacked=1>').waitFor();
  await page.getByRole('button', { name: 'Kill' }).click();
  await page.getByRole('dialog').getByText(/<img src=x/).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('link', { name: 'Submit again' }).click();
  await page.getByLabel('Command', { exact: true }).waitFor();
  await check(page);
});

async function check(page: import('playwright-core').Page): Promise<void> {
  assert.equal(await page.evaluate(() => (window as unknown as { hacked?: number }).hacked), undefined);
  assert.equal(await page.locator('img, #app script, svg[onload], a[href^="javascript:"]').count(), 0);
  assert.equal(await page.evaluate(() => [...document.querySelectorAll('*')].some((e) => e.getAttributeNames().some((name) => name.startsWith('on')))), false);
}

pageTest('the policy of the host stops a script that got in all the same', '/', async ({ page, troubles }) => {
  await page.locator('.cell').first().waitFor();
  await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.hacked = 1';
    document.body.append(script);
    document.body.insertAdjacentHTML('beforeend', '<img src="data:," onerror="window.hacked = 1">');
  });
  await page.waitForTimeout(200);
  assert.equal(await page.evaluate(() => (window as unknown as { hacked?: number }).hacked), undefined);
  assert.ok(troubles.length >= 1 && troubles.every((text) => /Content Security Policy/.test(text)), troubles.join('\n'));
  troubles.length = 0;
});

step('the hostile task is ended', () => cluster.do('kill_everything'));
