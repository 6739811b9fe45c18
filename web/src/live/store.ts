/* The cluster as signals. Each node, card and machine has one of its own, so that a changed figure draws one cell anew and nothing
 * else. `shape` counts changes that lists and filters depend on; `figures` counts those of mere figures as well. */
import { batch, signal, type Signal } from '@preact/signals';
import { mergePatch } from '../lib/merge_patch.ts';
import type { Gpu, NodeSummary, TaskBrief, Vps } from '../api/types.ts';
import { gpuKey } from './cluster_state.ts';
import { openLink, type Link } from './link.ts';
import type { Changes, Connection, Snapshot, ToPage } from './protocol.ts';

export const connection = signal<Connection>({ phase: 'connecting', heardMs: 0, retryMs: 0 });
/** Counts snapshots: what was fetched beside the stream before the last one may be out of date. 0: nothing is known yet. */
export const epoch = signal(0);
export const shape = signal(0);
export const figures = signal(0);
export const version = signal('');
/** The host is another version than the one that this page came from. */
export const isOutdated = signal(false);
export const storageProblem = signal<string | undefined>(undefined);
export const taskCounts = signal<Record<string, number>>({});

export const nodes = new Map<string, Signal<NodeSummary>>();
export const gpus = new Map<string, Signal<Gpu>>();
export const machines = new Map<number, Signal<Vps>>();

/** Names of all nodes in order, and of each its cards; replaced as a whole when one comes or goes. */
export const roster = signal<{ node: string; cards: Signal<Gpu>[] }[]>([]);
export const machineIds = signal<number[]>([]);

let offsetMs = 0;

/** Now, by the host's clock. */
export function hostNow(): number {
  return Date.now() + offsetMs;
}

type TaskListener = (tasks: TaskBrief[]) => void;
const taskListeners = new Set<TaskListener>();

/** Calls back with every task that changes. Returns how to stop that. */
export function onTasks(listener: TaskListener): () => void {
  taskListeners.add(listener);
  return () => taskListeners.delete(listener);
}

const collator = new Intl.Collator(undefined, { numeric: true });

function makeRoster(): void {
  const cards = new Map<string, Signal<Gpu>[]>([...nodes.keys()].map((name) => [name, []]));
  for (const card of gpus.values()) {
    const { node } = card.peek();
    const list = cards.get(node);
    if (list) list.push(card);
    else cards.set(node, [card]);
  }
  roster.value = [...cards]
    .sort(([a], [b]) => collator.compare(a, b))
    .map(([node, list]) => ({ node, cards: list.sort((a, b) => a.peek().index - b.peek().index) }));
}

function makeMachineIds(): void {
  machineIds.value = [...machines.keys()].sort((a, b) => b - a);
}

const FIGURES = new Set([
  'utilization_percent', 'memory_utilization_percent', 'memory_used_bytes', 'temperature_celsius', 'memory_temperature_celsius',
  'power_mw', 'fan_percent', 'sm_clock_mhz', 'memory_clock_mhz', 'throttle_reasons', 'pcie_generation', 'pcie_width', 'pcie_replays',
  'idle_since_ms', 'last_seen_ms', 'node', 'index', 'name', 'id',
]);

/** Sets or patches one thing. Returns 2 when it is new, 1 when more than figures changed. */
function put<K, V extends object>(map: Map<K, Signal<V>>, key: K, patch: object): 0 | 1 | 2 {
  const known = map.get(key);
  if (!known) {
    map.set(key, signal(mergePatch({}, patch) as V));
    return 2;
  }
  known.value = mergePatch(known.peek(), patch) as V;
  for (const member in patch) if (!FIGURES.has(member)) return 1;
  return 0;
}

/** Makes the map hold exactly these. */
function replaceAll<K, V extends object>(map: Map<K, Signal<V>>, list: V[], key: (value: V) => K): void {
  const gone = new Set(map.keys());
  for (const value of list) {
    const name = key(value);
    gone.delete(name);
    const known = map.get(name);
    if (known) known.value = value;
    else map.set(name, signal(value));
  }
  gone.forEach((name) => map.delete(name));
}

function takeSnapshot(s: Snapshot): void {
  offsetMs = s.now_ms - Date.now();
  replaceAll(nodes, s.nodes, (node) => node.name);
  replaceAll(gpus, s.gpus, gpuKey);
  replaceAll(machines, s.vps, (vps) => vps.id);
  if (version.peek() && version.peek() !== s.version) isOutdated.value = true;
  version.value = s.version;
  storageProblem.value = s.storage_problem;
  taskCounts.value = s.task_counts;
  makeRoster();
  makeMachineIds();
  shape.value++;
  figures.value++;
  epoch.value++;
}

function takeChanges(c: Changes): void {
  let most = 0;
  let moved = false;
  const note = (what: number): void => {
    most = Math.max(most, what);
  };
  c.nodes?.forEach((patch) => note(put(nodes, patch.name, patch)));
  c.gpus?.forEach((patch) => note(put(gpus, gpuKey(patch), patch)));
  c.nodes_gone?.forEach((name) => (moved = nodes.delete(name) || moved));
  c.gpus_gone?.forEach((gpu) => (moved = gpus.delete(gpuKey(gpu)) || moved));
  if (most === 2 || moved) makeRoster();
  if (most > 0 || moved) shape.value++;
  if (c.gpus || c.nodes) figures.value++;
  const newMachines = c.vps?.map((patch) => put(machines, patch.id, patch)).includes(2);
  const goneMachines = c.vps_gone?.map((id) => machines.delete(id)).includes(true);
  if (newMachines || goneMachines) makeMachineIds();
  if (c.task_counts) taskCounts.value = c.task_counts;
  if (c.storage_problem !== undefined) storageProblem.value = c.storage_problem ?? undefined;
  if (c.tasks) taskListeners.forEach((listener) => listener(c.tasks!));
}

export function take(message: ToPage): void {
  if (message.type === 'connection') connection.value = message.connection;
  else if (message.type === 'snapshot') batch(() => takeSnapshot(message.snapshot));
  else if (message.type === 'changes') batch(() => takeChanges(message.changes));
  else offsetMs = message.nowMs - Date.now();
}

let link: Link | undefined;

export function startLive(): void {
  link ??= openLink(take);
}

export function retryNow(): void {
  link?.retry();
}
