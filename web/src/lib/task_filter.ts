/* What of all tasks is asked of the host, and whether a task that the stream tells of belongs into the answer. */
import type { Task, TaskBrief, TaskState } from '../api/types.ts';
import { quoteWords } from './shell_words.ts';

export interface TaskFilter {
  /** One or several states with commas between, 'live', or '' for all. */
  status: string;
  node: string;
  owner: string;
  q: string;
  /** UUID: tasks that were granted that card. */
  gpu?: string;
}

export const TASK_STATES: readonly TaskState[] = ['pending', 'starting', 'running', 'paused', 'stopping', 'completed', 'failed', 'killed', 'lost'];
const OVER: readonly TaskState[] = ['completed', 'failed', 'killed'];

export function isOver(state: TaskState): boolean {
  return OVER.includes(state);
}

/** The short form of a task that came whole. */
export function briefOf(task: Task): TaskBrief {
  const { id, state, node, target, gpus, created_ms, revision } = task;
  const brief: TaskBrief = { id, state, node, target, gpus, created_ms, revision, command_text: quoteWords(task.command).slice(0, 200) };
  for (const member of ['name', 'owner', 'reason', 'holding', 'exit_code', 'started_ms', 'finished_ms'] as const) {
    if (task[member] !== undefined) Object.assign(brief, { [member]: task[member] });
  }
  return brief;
}

/** The part of the judgement that changes while a task lives. */
export function hasStateOf(task: TaskBrief, f: TaskFilter): boolean {
  // A task that is over may hold its lease still: then it says what holds it.
  if (f.status === 'live') return !isOver(task.state) || Boolean(task.holding);
  return !f.status || f.status.split(',').includes(task.state);
}

export function belongs(task: TaskBrief, f: TaskFilter): boolean {
  if (!hasStateOf(task, f)) return false;
  if (f.node && task.node !== f.node) return false;
  if (f.owner && task.owner !== f.owner) return false;
  if (f.gpu && !task.gpus.some((gpu) => gpu.uuid === f.gpu)) return false;
  const q = f.q.toLowerCase();
  return !q || [task.name, task.command_text, String(task.id)].some((text) => text?.toLowerCase().includes(q));
}
