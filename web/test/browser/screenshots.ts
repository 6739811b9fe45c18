/* Pictures of the main views, light, dark and on a phone: screenshots.ts FOLDER, from a cluster that has something to show. */
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { closeBrowser, Cluster, openTab } from './bed.ts';

const folder = resolve(process.argv[2] ?? 'docs/images');
mkdirSync(folder, { recursive: true });
const cluster = await Cluster.start();

async function submit(targets: string[], name: string, owner: string, script: string): Promise<number> {
  const { tasks } = await cluster.api<{ tasks: { id: number }[] }>('/tasks', { targets, name, owner, command: ['sh', '-c', script] });
  await cluster.do('wait_state', [tasks[0]!.id, 'running', 'completed', 'failed']);
  return tasks[0]!.id;
}

const TRAINING = 'i=0; while true; do i=$((i+1)); echo "step $i  loss $((9000/(i+3))).$((i*37%90+10))  lr 3e-4  tokens/s $((48000+i*113%900))"; sleep 0.05; done';

for (const name of ['node3', 'node4', 'rack2-a', 'rack2-b']) await cluster.do('add_node', [name]);
const training = await submit(['mynode::0,1'], 'llama-70b-sft', 'ana@login1', TRAINING);
await submit(['mynode::2'], 'eval-suite', 'ben@login1', 'sleep 900');
await submit(['node2::0'], 'diffusion', 'chen@login2', 'sleep 900');
await submit(['node3::0,1'], 'whisper-large', 'ana@login1', 'sleep 900');
await submit(['rack2-a::1'], 'notebook', 'dora@login2', 'sleep 900');
await submit(['rack2-b::0'], 'sweep-3', 'ben@login1', 'sleep 900');
await submit(['mynode'], 'prepare-data', 'ana@login1', 'exit 0');
await submit(['node4::1'], 'old-run', 'chen@login2', 'echo "no such file" >&2; exit 2');
const work: [string, number, object][] = [
  ['mynode', 0, { utilization: 97, temperature: 68, power_mw: 655000, memory_used_mib: 74200 }],
  ['mynode', 1, { utilization: 95, temperature: 66, power_mw: 640000, memory_used_mib: 73900 }],
  ['mynode', 2, { utilization: 34, temperature: 47, power_mw: 250000, memory_used_mib: 21000 }],
  ['node2', 0, { utilization: 88, temperature: 71, power_mw: 280000, memory_used_mib: 31000 }],
  ['node3', 0, { utilization: 61, temperature: 58, power_mw: 210000, memory_used_mib: 26000 }],
  ['node3', 1, { utilization: 64, temperature: 59, power_mw: 215000, memory_used_mib: 26100 }],
  ['node4', 0, { xids: [{ seq: 1, code: 95 }] }],
  ['rack2-b', 0, { utilization: 12, temperature: 41, power_mw: 110000, memory_used_mib: 9000 }],
];
for (const [node, place, changes] of work) await cluster.do('change_gpu', [node, place], changes);
await cluster.api('/nodes/rack2-b/gpus/1/cordon', { who: 'ops', reason: 'new fan on Monday' });
await new Promise((done) => setTimeout(done, Number(process.env['KR_SETTLE_S'] ?? 45) * 1000)); // something for the charts

const VIEWS: [string, string, string][] = [
  ['cluster', '/', '.cell'],
  ['node', '/nodes/mynode', 'canvas'],
  ['gpu', '/nodes/mynode/gpus/0', 'canvas'],
  ['tasks', '/tasks', '.list tbody tr'],
  ['task', `/tasks/${training}`, '.line'],
  ['submit', '/submit?gpu=mynode%3A%3A3', '.pick'],
];
const LOOKS = { light: { colorScheme: 'light', viewport: { width: 1280, height: 800 } }, dark: { colorScheme: 'dark', viewport: { width: 1280, height: 800 } }, phone: { colorScheme: 'light', viewport: { width: 380, height: 760 } } } as const;

for (const [look, options] of Object.entries(LOOKS)) {
  for (const [name, path, ready] of VIEWS) {
    const { page, context } = await openTab(cluster.url + path, options);
    await page.locator(ready).first().waitFor();
    if (name === 'submit') await page.getByLabel('Command', { exact: true }).fill('python train.py --config "configs/7b tuned.yaml"');
    await page.waitForTimeout(500);
    await page.screenshot({ path: join(folder, `dashboard-${name}-${look}.png`) });
    await context.close();
  }
}
await closeBrowser();
await cluster.stop();
console.log(`pictures are in ${folder}`);
