/* One card of the grid. It is drawn anew when its state or its holder changes; figures are written into it. */
import { useComputed, type ReadonlySignal, type Signal } from '@preact/signals';
import type { Gpu } from '../api/types.ts';
import { bytesOf, percent, roughSpan, share } from '../lib/units.ts';
import { to } from '../router.ts';
import { slowNow } from './clock.ts';
import { ALWAYS } from './in_sight.ts';
import { LiveBar, LiveText } from './live_text.tsx';
import { gpuWord } from './parts.tsx';

/** Nothing is wrong with it: an operator keeps it, or its node, from new work. */
export function isKeptBack(gpu: Gpu): boolean {
  return gpu.state === 'quarantined' && gpu.health === 'ok';
}

/** Who has it, or what it is: the words in sight. */
export function holderText(gpu: Gpu): string {
  const holder = gpu.holder;
  if (!holder) return isKeptBack(gpu) ? 'cordoned' : gpuWord(gpu.state);
  if (holder.kind === 'orphan') return `orphan ${holder.task_id}`;
  return holder.name || `task ${holder.task_id}`;
}

/** The card by its whole name: "GPU 3 of mynode: in use, task 17 train of ana". Most of it is for readers of the screen. */
export function CardName({ gpu }: { gpu: Gpu }) {
  const holder = gpu.holder;
  const isNamed = holder?.kind === 'task' && holder.name !== '';
  return (
    <>
      <span class="unseen">GPU</span>
      <b>{gpu.index}</b>
      <span class="unseen">
        of {gpu.node}: {holder && `${gpuWord(gpu.state)}, ${isNamed ? `task ${holder.task_id}` : ''}`}
      </span>
      <span class="who">{holderText(gpu)}</span>
      {(holder?.owner || !gpu.online) && (
        <span class="unseen">
          {holder?.owner && `of ${holder.owner}`}
          {!gpu.online && ', node is silent'}
        </span>
      )}
    </>
  );
}

/** All that a cell shows but for figures. */
function lookOf(gpu: Gpu): string {
  const { state, online, health, holder } = gpu;
  return JSON.stringify([state, online, health, gpu.state_reason, holder?.kind, holder?.task_id, holder?.name, holder?.owner]);
}

/** A card that somebody holds and has not used for so long says so in place of its 0 %. */
const IDLE_MS = 300000;

function utilText(gpu: Gpu): string {
  const idleMs = gpu.holder && gpu.idle_since_ms ? slowNow.value - gpu.idle_since_ms : 0;
  return idleMs >= IDLE_MS ? `idle ${roughSpan(idleMs)}` : percent(gpu.utilization_percent);
}

function memoryText(gpu: Gpu): string {
  return bytesOf(gpu.memory_used_bytes, gpu.memory_total_bytes).replace(' of ', '/').replace(/\.\d+/g, '');
}

function Meters({ card, isInSight }: { card: Signal<Gpu>; isInSight: ReadonlySignal<boolean> }) {
  return (
    <span class="meters" aria-hidden="true">
      <LiveBar kind="util" share={() => share(card.value.utilization_percent, 100)} isInSight={isInSight} />
      <LiveText text={() => utilText(card.value)} isInSight={isInSight} />
      <LiveBar kind="mem" share={() => share(card.value.memory_used_bytes, card.value.memory_total_bytes)} isInSight={isInSight} />
      <LiveText text={() => memoryText(card.value)} isInSight={isInSight} />
    </span>
  );
}

export function GpuCell({ card, isInSight = ALWAYS }: { card: Signal<Gpu>; isInSight?: ReadonlySignal<boolean> }) {
  // Only what this says decides whether the cell is drawn anew.
  useComputed(() => lookOf(card.value)).value;
  const gpu = card.peek();
  return (
    <a
      class={`cell s-${gpu.state}${gpu.online ? '' : ' off'}${gpu.health === 'ok' ? '' : ' sick'}${isKeptBack(gpu) ? ' kept' : ''}`}
      href={to.gpu(gpu.node, gpu.index)}
      tabIndex={-1}
      title={gpu.state_reason ?? gpu.name}
    >
      <span class="swatch" />
      <span class="head">
        <CardName gpu={gpu} />
      </span>
      <Meters card={card} isInSight={isInSight} />
    </a>
  );
}
