/* Which cards of the grid are shown: a filter that stands in the address and says the same to everybody who opens it. */
import type { Gpu, GpuState } from '../api/types.ts';

export interface GridFilter {
  /** In node, holder, model, UUID, PCI address or "node::index". */
  q: string;
  free: boolean;
  model: string;
  /** At least so much memory in GiB; 0: any. */
  memoryGib: number;
  user: string;
  node: string;
  states: GpuState[];
}

export const GPU_STATES: readonly GpuState[] = [
  'free', 'leased', 'starting', 'in_use', 'draining', 'foreign', 'orphaned', 'switching', 'vfio', 'quarantined', 'unknown', 'bare', 'removed',
];

export function filterFromQuery(q: URLSearchParams): GridFilter {
  const memory = Number(q.get('memory') ?? 0);
  return {
    q: q.get('q') ?? '',
    free: q.get('free') === '1',
    model: q.get('model') ?? '',
    memoryGib: memory > 0 && Number.isFinite(memory) ? memory : 0,
    user: q.get('user') ?? '',
    node: q.get('node') ?? '',
    states: (q.get('state') ?? '').split(',').filter((s): s is GpuState => GPU_STATES.includes(s as GpuState)),
  };
}

export function filterToQuery(f: GridFilter): Record<string, string> {
  return {
    q: f.q,
    free: f.free ? '1' : '',
    model: f.model,
    memory: f.memoryGib ? String(f.memoryGib) : '',
    user: f.user,
    node: f.node,
    state: f.states.join(','),
  };
}

export function isFiltering(f: GridFilter): boolean {
  return Object.values(filterToQuery(f)).some((value) => value !== '');
}

/** A search for "mynode::3" or "3" shall find card 3; any other text is looked for anywhere. */
function matchesText(gpu: Gpu, q: string): boolean {
  const wanted = q.toLowerCase();
  const place = `${gpu.node}::${gpu.index}`.toLowerCase();
  if (wanted.includes('::')) return place === wanted || (wanted.endsWith('::') && place.startsWith(wanted));
  const holder = gpu.holder;
  return [gpu.node, gpu.name, gpu.uuid, gpu.pci_address, holder?.name, holder?.owner, holder && `task ${holder.task_id}`].some(
    (text) => text?.toLowerCase().includes(wanted),
  );
}

export function matches(gpu: Gpu, f: GridFilter): boolean {
  if (f.free && !gpu.free) return false;
  if (f.node && gpu.node !== f.node) return false;
  if (f.model && gpu.name !== f.model) return false;
  if (f.user && gpu.holder?.owner !== f.user) return false;
  // What a card is sold as: "80 GB" has a little less than 80 GiB.
  if (f.memoryGib && !((gpu.memory_total_bytes ?? 0) >= f.memoryGib * 0.9 * 2 ** 30)) return false;
  if (f.states.length && !f.states.includes(gpu.state)) return false;
  return !f.q || matchesText(gpu, f.q);
}
