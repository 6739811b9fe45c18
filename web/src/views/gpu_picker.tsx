/* Which cards: every card of the cluster with who holds it. One that is held can be chosen too; the host says no, and why. */
import { useSignal, type Signal } from '@preact/signals';
import type { Gpu, Refusal } from '../api/types.ts';
import { nodeOf, type Choice } from '../lib/target.ts';
import { bytes } from '../lib/units.ts';
import { nodes, roster, shape } from '../live/store.ts';
import { CardName } from '../ui/gpu_cell.tsx';
import { Ago, Empty, gpuWord } from '../ui/parts.tsx';

const MANY = 12;

export function toggled(choices: Choice[], node: string, gpu: number): Choice[] {
  const known = choices.find((c) => c.node === node) ?? { node, gpus: [] };
  const gpus = known.gpus.includes(gpu) ? known.gpus.filter((g) => g !== gpu) : [...known.gpus, gpu].sort((a, b) => a - b);
  const rest = choices.filter((c) => c.node !== node);
  return gpus.length ? [...rest, { ...known, gpus }].sort((a, b) => a.node.localeCompare(b.node)) : rest;
}

function Card({ card, isChosen, isRefused, onToggle }: { card: Signal<Gpu>; isChosen: boolean; isRefused: boolean; onToggle: () => void }) {
  const gpu = card.value;
  const holder = gpu.holder;
  return (
    <button
      type="button"
      class={`pick s-${gpu.state}${isRefused ? ' refused' : ''}`}
      aria-pressed={isChosen}
      title={gpu.state_reason ?? gpu.name}
      onClick={onToggle}
    >
      <span class="swatch" aria-hidden="true" />
      <CardName gpu={gpu} />
      <span class="sub">{holder?.owner ?? bytes(gpu.memory_total_bytes)}</span>
    </button>
  );
}

function Warnings({ choices }: { choices: Choice[] }) {
  shape.value;
  const held = choices.flatMap(({ node, gpus: chosen }) =>
    (roster.value.find((row) => row.node === node)?.cards ?? []).map((card) => card.peek()).filter((gpu) => chosen.includes(gpu.index) && !gpu.free),
  );
  if (held.length === 0) return null;
  return (
    <ul class="note warn">
      {held.map((gpu) => (
        <li key={gpu.uuid}>
          GPU {gpu.index} of {gpu.node} is {gpuWord(gpu.state)}
          {gpu.holder && (
            <>
              {' '}
              by {gpu.holder.kind} {gpu.holder.task_id} {gpu.holder.name && `(${gpu.holder.name})`} {gpu.holder.owner && `of ${gpu.holder.owner}`}, granted <Ago ms={gpu.holder.since_ms} />
            </>
          )}
          : it would be refused now.
        </li>
      ))}
    </ul>
  );
}

export function GpuPicker({ choices, refusals, onChange }: { choices: Choice[]; refusals: Refusal[]; onChange: (choices: Choice[]) => void }) {
  const wanted = useSignal('');
  const freeOnly = useSignal(false);
  shape.value;
  const rows = roster.value
    .filter(({ node }) => node.toLowerCase().includes(wanted.value.toLowerCase()))
    .map(({ node, cards }) => ({
      node,
      all: cards,
      cards: freeOnly.value ? cards.filter((card) => card.peek().free || choices.some((c) => c.node === node && c.gpus.includes(card.peek().index))) : cards,
    }))
    .filter(({ cards }) => cards.length > 0);
  const shown = rows.slice(0, MANY);
  const setNuma = (node: string, numa: number | undefined): void => onChange(choices.map((c) => (c.node === node ? { ...c, numa } : c)));
  return (
    <fieldset class="picker">
      <legend>GPUs</legend>
      <div class="filters">
        <input type="search" data-search placeholder="Search for a node" aria-label="Search for a node" value={wanted.value} onInput={(e) => (wanted.value = e.currentTarget.value)} />
        <label class="check">
          <input type="checkbox" checked={freeOnly.value} onChange={(e) => (freeOnly.value = e.currentTarget.checked)} />
          free only
        </label>
      </div>
      {shown.map(({ node, all, cards }) => {
        const choice = choices.find((c) => c.node === node);
        const reasons = refusals.filter((r) => nodeOf(r.target) === node);
        const numas = [...new Set(all.map((card) => card.peek().numa_node).filter((n) => n !== undefined))].sort();
        return (
          <div key={node} class="pick-row" role="group" aria-label={`GPUs of ${node}`}>
            <div class="node-head">
              <b>{node}</b>
              {!nodes.get(node)?.value.online && <span class="tag bad">silent</span>}
              {nodes.get(node)?.value.cordon && <span class="tag warn">{nodes.get(node)!.value.cordon!.kind === 'drain' ? 'draining' : 'cordoned'}</span>}
              {choice && numas.length > 1 && (
                <select aria-label={`CPUs and memory on ${node}`} value={choice.numa === undefined ? '' : String(choice.numa)} onChange={(e) => setNuma(node, e.currentTarget.value === '' ? undefined : Number(e.currentTarget.value))}>
                  <option value="">any CPUs</option>
                  {numas.map((numa) => (
                    <option key={numa} value={String(numa)}>
                      NUMA node {numa}
                    </option>
                  ))}
                </select>
              )}
            </div>
            <div class="picks">
              {cards.map((card) => {
                const { index } = card.peek();
                return (
                  <Card key={index} card={card} isChosen={choice?.gpus.includes(index) ?? false} isRefused={reasons.length > 0 && (choice?.gpus.includes(index) ?? false)} onToggle={() => onChange(toggled(choices, node, index))} />
                );
              })}
            </div>
            {reasons.map((r) => (
              <p key={r.target} class="problem" role="alert">
                <code>{r.target}</code> {r.reason}
              </p>
            ))}
          </div>
        );
      })}
      {rows.length === 0 && <Empty>{roster.value.length ? 'No card matches.' : 'No node has joined yet.'}</Empty>}
      {rows.length > shown.length && <p class="hint">{rows.length - shown.length} more nodes: search for them by name.</p>}
      <Warnings choices={choices} />
    </fieldset>
  );
}
