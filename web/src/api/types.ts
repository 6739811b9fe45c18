/* What the host's API says, as docs/api.md describes it. An absent member is not known; it is never shown as 0. */

export type GpuState =
  | 'free'
  | 'leased'
  | 'starting'
  | 'in_use'
  | 'draining'
  | 'foreign'
  | 'orphaned'
  | 'switching'
  | 'vfio'
  | 'quarantined'
  | 'unknown'
  | 'bare'
  | 'removed';

export type TaskState =
  | 'pending'
  | 'starting'
  | 'running'
  | 'paused'
  | 'stopping'
  | 'completed'
  | 'failed'
  | 'killed'
  | 'lost';

export interface Mark {
  kind: 'cordon' | 'drain';
  who: string;
  reason: string;
  since_ms: number;
}

export interface Holder {
  kind: 'task' | 'orphan';
  task_id: number;
  name: string;
  owner?: string;
  since_ms: number;
  epoch: number;
}

export interface Gpu {
  node: string;
  online: boolean;
  index: number;
  uuid: string;
  pci_address: string;
  name: string;
  condition: string;
  free: boolean;
  state: GpuState;
  state_since_ms: number;
  state_reason?: string;
  way_out: string;
  health: 'ok' | 'suspect' | 'quarantine' | 'dead';
  health_reason?: string;
  cordon?: Mark;
  holder?: Holder;
  idle_since_ms?: number;
  memory_total_bytes?: number;
  memory_used_bytes?: number;
  utilization_percent?: number;
  memory_utilization_percent?: number;
  temperature_celsius?: number;
  memory_temperature_celsius?: number;
  power_mw?: number;
  power_limit_mw?: number;
  numa_node?: number;
  fan_percent?: number;
  sm_clock_mhz?: number;
  memory_clock_mhz?: number;
  throttle_reasons?: number;
  ecc_corrected?: number;
  ecc_uncorrected?: number;
  ecc_uncorrected_ever?: number;
  rows_remapped_corrected?: number;
  rows_remapped_uncorrected?: number;
  row_remap_pending?: number;
  row_remap_failed?: number;
  pcie_generation?: number;
  pcie_width?: number;
  pcie_replays?: number;
  xids?: { code: number; count: number; last_ms: number }[];
}

export interface NodeSummary {
  name: string;
  online: boolean;
  last_seen_ms?: number;
  version?: string;
  cores: number;
  cores_reserved: number;
  memory_total_bytes: number;
  memory_used_bytes: number;
  memory_reserved_bytes: number;
  gpus_total: number;
  gpus_free: number;
  gpus_known: boolean;
  gpus_simulated: boolean;
  gpu_text?: string;
  engine_ok: boolean;
  engine_text?: string;
  vm_ok?: boolean;
  vm_text?: string;
  disk_ok: boolean;
  disk_text?: string;
  tasks: number[];
  cordon?: Mark;
  /** Switches of cards to machines that are not over. */
  vfio?: { owner: string; state: string; step: string; reason: string; gpus: unknown[] }[];
}

export interface NodeDetail extends Omit<NodeSummary, 'gpus_total' | 'gpus_free'> {
  boot_id?: string;
  numa: { id: number; cpus: string; memory_bytes: number }[];
}

export interface LeaseGpu {
  index: number;
  uuid: string;
}

/** What lists and the stream tell of a task. */
export interface TaskBrief {
  id: number;
  state: TaskState;
  node: string;
  target: string;
  gpus: LeaseGpu[];
  name?: string;
  owner?: string;
  command_text: string;
  reason?: string;
  holding?: string;
  exit_code?: number;
  created_ms: number;
  started_ms?: number;
  finished_ms?: number;
  revision: number;
}

export interface Task extends Omit<TaskBrief, 'command_text'> {
  batch_id: string;
  epoch: number;
  holds_lease: boolean;
  numa?: number;
  kill_requested?: boolean;
  pause_requested?: boolean;
  oom?: boolean;
  image?: string;
  command: string[];
  env: string[];
  mounts: string[];
  cores: number;
  memory_bytes: number;
  vm?: object;
}

export interface Vps {
  id: number;
  name: string;
  owner?: string;
  state: 'pending' | 'assigning' | 'provisioning' | 'running' | 'paused' | 'stopping' | 'stopped' | 'failed' | 'lost';
  node: string;
  target: string;
  image: string;
  user: string;
  disk_bytes: number;
  memory_bytes: number;
  cores: number;
  network: string;
  created_ms: number;
  task_id: number;
  holds_lease: boolean;
  gpus: LeaseGpu[];
  reason?: string;
  holding?: string;
  exit_code?: number;
  started_ms?: number;
  finished_ms?: number;
  /** What its node says of its cards. */
  cards?: string;
  guest?: Guest;
}

/** What the guest says of itself: its word only. */
export interface Guest {
  heard: boolean;
  ready: boolean;
  silent?: boolean;
  late?: boolean;
  address?: string;
  driver?: 'none' | 'installing' | 'ready' | 'failed';
  driver_version?: string;
  driver_text?: string;
  gpus: { name: string; utilization_percent?: number; memory_used_bytes?: number; memory_total_bytes?: number; temperature_celsius?: number }[];
}

export interface Process {
  pid: number;
  command: string;
  user: string;
  started_ms?: number;
  container?: string;
  memory_bytes?: number;
  task_id?: number;
  owner?: string;
  name?: string;
}

export interface Topology {
  gpus: { uuid: string; index: number; numa_node?: number; cpus?: string }[];
  links: { a: string; b: string; kind: string }[];
}

export interface AuditEntry {
  id: number;
  at_ms: number;
  who: string;
  action: string;
  subject: string;
  text: string;
}

export type Values = (number | null)[];

export interface GpuHistory {
  from_ms: number;
  step_ms: number;
  utilization_percent: Values;
  memory_used_bytes: Values;
  temperature_celsius: Values;
  power_mw: Values;
  utilization_percent_max?: Values;
  memory_used_bytes_max?: Values;
  temperature_celsius_max?: Values;
  power_mw_max?: Values;
}

export interface Refusal {
  target: string;
  reason: string;
}

export interface Submission {
  targets: string[];
  command: string[];
  image?: string;
  env?: string[];
  mounts?: string[];
  name?: string;
  owner?: string;
  cores?: number;
  memory_bytes?: number;
}
