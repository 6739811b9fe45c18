/* One card of the grid. It reads its own signal alone: when a figure of this card changes, this cell is drawn anew and no other. */
import type { Signal } from '@preact/signals';
import type { Gpu } from '../api/types.ts';
import { bytesOf, percent, share } from '../lib/units.ts';
import { to } from '../router.ts';
import { Bar, gpuWord } from './parts.tsx';

/** Who has it, or what it is. */
export function holderText(gpu: Gpu): string {
  const holder = gpu.holder;
  if (!holder) return gpuWord(gpu.state);
  const name = holder.name || `task ${holder.task_id}`;
  return holder.kind === 'orphan' ? `orphan ${holder.task_id}` : name;
}

function label(gpu: Gpu): string {
  const holder = gpu.holder;
  const who = holder ? `, ${holder.kind} ${holder.task_id} ${holder.name}${holder.owner ? ` of ${holder.owner}` : ''}` : '';
  return `GPU ${gpu.index} of ${gpu.node}: ${gpuWord(gpu.state)}${who}${gpu.online ? '' : ', node is silent'}`;
}

export function Meters({ gpu }: { gpu: Gpu }) {
  return (
    <span class="meters" aria-hidden="true">
      <Bar kind="util" value={share(gpu.utilization_percent, 100)} />
      <b>{percent(gpu.utilization_percent)}</b>
      <Bar kind="mem" value={share(gpu.memory_used_bytes, gpu.memory_total_bytes)} />
      <b>{bytesOf(gpu.memory_used_bytes, gpu.memory_total_bytes).replace(' of ', '/').replace(/\.\d+/g, '')}</b>
    </span>
  );
}

export function GpuCell({ card }: { card: Signal<Gpu> }) {
  const gpu = card.value;
  return (
    <a
      class={`cell s-${gpu.state}${gpu.online ? '' : ' off'}${gpu.health === 'ok' ? '' : ' sick'}`}
      href={to.gpu(gpu.node, gpu.index)}
      tabIndex={-1}
      aria-label={label(gpu)}
      title={gpu.state_reason ?? gpu.name}
    >
      <span class="swatch" />
      <span class="head">
        <b>{gpu.index}</b>
        <span class="who">{holderText(gpu)}</span>
      </span>
      <Meters gpu={gpu} />
    </a>
  );
}
