/* The whole of what the stream has told, kept so that a page that is opened later can be given it at once. */
import { mergePatch } from '../lib/merge_patch.ts';
import type { Gpu, NodeSummary, Vps } from '../api/types.ts';
import type { Changes, Snapshot } from './protocol.ts';

export function gpuKey(gpu: { node: string; index: number }): string {
  return `${gpu.node}::${gpu.index}`;
}

export class ClusterState {
  private readonly nodes = new Map<string, NodeSummary>();
  private readonly gpus = new Map<string, Gpu>();
  private readonly vps = new Map<number, Vps>();
  private base: Snapshot | undefined;

  set(snapshot: Snapshot): void {
    this.base = snapshot;
    this.nodes.clear();
    this.gpus.clear();
    this.vps.clear();
    snapshot.nodes.forEach((node) => this.nodes.set(node.name, node));
    snapshot.gpus.forEach((gpu) => this.gpus.set(gpuKey(gpu), gpu));
    snapshot.vps.forEach((vps) => this.vps.set(vps.id, vps));
  }

  apply(changes: Changes): void {
    if (!this.base) return;
    changes.nodes?.forEach((patch) => merge(this.nodes, patch.name, patch));
    changes.gpus?.forEach((patch) => merge(this.gpus, gpuKey(patch), patch));
    changes.vps?.forEach((patch) => merge(this.vps, patch.id, patch));
    changes.nodes_gone?.forEach((name) => this.nodes.delete(name));
    changes.gpus_gone?.forEach((gpu) => this.gpus.delete(gpuKey(gpu)));
    changes.vps_gone?.forEach((id) => this.vps.delete(id));
    this.base = { ...this.base, now_ms: changes.now_ms };
    if (changes.task_counts) this.base.task_counts = changes.task_counts;
    if (changes.storage_problem === null) delete this.base.storage_problem;
    else if (changes.storage_problem !== undefined) this.base.storage_problem = changes.storage_problem;
  }

  get(): Snapshot | undefined {
    return (
      this.base && {
        ...this.base,
        nodes: [...this.nodes.values()],
        gpus: [...this.gpus.values()],
        vps: [...this.vps.values()],
      }
    );
  }
}

function merge<K, V>(map: Map<K, V>, key: K, patch: unknown): void {
  map.set(key, mergePatch(map.get(key), patch) as V);
}
