/* A machine in the list and by itself. Its image does not exist, so it fails at once: what a machine does is tested in tests/e2e. */
import assert from 'node:assert/strict';
import { cluster, pageTest } from './setup.ts';

interface Made {
  id: number;
  error?: { message: string };
}

pageTest('a machine: listed, why it failed, how to log in, started again, deleted', '/vps', async ({ page }) => {
  const { node } = await cluster.api<{ node: { vm_ok?: boolean; vm_text?: string } }>('/nodes/node2');
  assert.equal(node.vm_ok, true, node.vm_text);
  const vps = { name: 'box-1', target: 'node2', image: 'nonesuch', disk_bytes: 2 ** 30, memory_bytes: 2 ** 29, cores: 1, owner: 'ana', ssh_keys: [] };
  const made = await cluster.api<Made>('/vps', vps);
  assert.equal(made.error?.message, undefined);
  await page.getByRole('link', { name: 'box-1' }).waitFor();
  const row = page.getByRole('row', { name: /box-1/ });
  await row.getByText('failed').waitFor();
  await row.getByText(/nonesuch/).first().waitFor();
  await page.getByRole('link', { name: 'box-1' }).click();
  await page.waitForURL(`**/vps/${made.id}`);
  await page.locator('.note', { hasText: 'nonesuch' }).waitFor();
  await page.getByText('kohakuriver ssh box-1').waitFor();
  await page.getByRole('region', { name: 'Facts' }).getByText('512 MiB').waitFor();
  const before = await page.getByRole('link', { name: /^task \d+$/ }).innerText();
  await page.getByRole('button', { name: 'Start' }).click();
  await page.getByText('was asked to start').waitFor();
  await page.waitForFunction((old) => ![...document.querySelectorAll('a')].some((a) => a.textContent === old), before);
  await page.locator('.view-head .badge', { hasText: 'failed' }).waitFor();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByText('gone for good').waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.waitForURL('**/vps');
  await page.getByText('There are none').waitFor();
});
