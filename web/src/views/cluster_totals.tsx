/* The cluster in one line. Means and sums are over the cards that say so; when some do not, that is said. */
import { computed } from '@preact/signals';
import { bytesOf, count, UNKNOWN } from '../lib/units.ts';
import { epoch, figures, gpus, nodes, shape, taskCounts } from '../live/store.ts';

const cards = computed(() => {
  shape.value;
  let free = 0;
  let held = 0;
  let online = 0;
  for (const card of gpus.values()) {
    const gpu = card.peek();
    if (gpu.free) free++;
    else if (gpu.holder) held++;
  }
  for (const node of nodes.values()) if (node.peek().online) online++;
  return { total: gpus.size, free, held, other: gpus.size - free - held, online, nodes: nodes.size };
});

const load = computed(() => {
  figures.value;
  let util = 0;
  let told = 0;
  let used = 0;
  let total = 0;
  for (const card of gpus.values()) {
    const gpu = card.peek();
    if (!gpu.online) continue;
    if (gpu.utilization_percent !== undefined) {
      util += gpu.utilization_percent;
      told++;
    }
    if (gpu.memory_used_bytes !== undefined && gpu.memory_total_bytes !== undefined) {
      used += gpu.memory_used_bytes;
      total += gpu.memory_total_bytes;
    }
  }
  return { mean: told ? Math.round(util / told) : undefined, told, used, total };
});

function Total({ name, value, note }: { name: string; value: string; note?: string }) {
  return (
    <div class="total">
      <dt>{name}</dt>
      <dd title={note}>{value}</dd>
    </div>
  );
}

export function Totals() {
  if (epoch.value === 0) return null;
  const c = cards.value;
  const l = load.value;
  const t = taskCounts.value;
  return (
    <dl class="totals">
      <Total name="free" value={`${count(c.free)} of ${count(c.total)}`} />
      <Total name="held" value={count(c.held)} />
      {c.other > 0 && <Total name="out of use" value={count(c.other)} note="neither free nor held: foreign, quarantined, unknown …" />}
      <Total name="utilisation" value={l.mean === undefined ? UNKNOWN : `${l.mean} %`} note={`mean of the ${l.told} cards that tell`} />
      <Total name="GPU memory" value={l.total ? bytesOf(l.used, l.total) : UNKNOWN} />
      <Total name="nodes online" value={`${c.online} of ${c.nodes}`} />
      <Total name="tasks running" value={count(t['running'] ?? 0)} />
      {(t['pending'] ?? 0) + (t['starting'] ?? 0) > 0 && <Total name="starting" value={count((t['pending'] ?? 0) + (t['starting'] ?? 0))} />}
      {(t['lost'] ?? 0) > 0 && <Total name="lost" value={count(t['lost'])} note="their nodes are silent" />}
    </dl>
  );
}
