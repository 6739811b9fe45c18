/* What the host's stream says, and what the stream's keeper passes on to the pages of one browser. */
import type { Gpu, NodeSummary, TaskBrief, Vps } from '../api/types.ts';

export interface Snapshot {
  now_ms: number;
  version: string;
  cluster_id: string;
  storage_problem?: string;
  nodes: NodeSummary[];
  gpus: Gpu[];
  vps: Vps[];
  task_counts: Record<string, number>;
}

/** Members of nodes, gpus and vps are merge patches. */
export interface Changes {
  now_ms: number;
  nodes?: (Partial<NodeSummary> & { name: string })[];
  gpus?: (Partial<Gpu> & { node: string; index: number })[];
  vps?: (Partial<Vps> & { id: number })[];
  tasks?: TaskBrief[];
  nodes_gone?: string[];
  gpus_gone?: { node: string; index: number }[];
  vps_gone?: number[];
  task_counts?: Record<string, number>;
  storage_problem?: string | null;
}

export interface Connection {
  /** connecting: for the first time; lost: it was refused, broke, or has been silent for too long. */
  phase: 'connecting' | 'live' | 'lost';
  /** When anything was heard last, by this machine's clock; 0: never. */
  heardMs: number;
  /** When the next attempt is made; 0 while none is planned. */
  retryMs: number;
}

export type ToPage =
  | { type: 'connection'; connection: Connection }
  | { type: 'snapshot'; snapshot: Snapshot }
  | { type: 'changes'; changes: Changes }
  | { type: 'beat'; nowMs: number };

export type FromPage = { type: 'retry' } | { type: 'bye' };
