/* A page of tasks: the host's answer, with what the stream has told on top of it. Pure: use_tasks.ts asks and listens.
 *
 * The answer holds every task that the filter lets through with a number from `nextBefore` up to below `before`. So a change of a
 * task in that range is decided here. One outside of it can only change the total, and often it is not to be known whether it does:
 * then the total has to be asked for again. */
import type { Task, TaskBrief } from '../api/types.ts';
import { belongs, briefOf, hasStateOf, isOver, type TaskFilter } from './task_filter.ts';

export interface Answer {
  tasks: Task[];
  next_before?: number;
  total?: number;
}

export interface Wanted {
  filter: TaskFilter;
  limit: number;
  /** Where the page begins; undefined: with the newest task. */
  before?: number | undefined;
}

export interface Page {
  tasks: TaskBrief[];
  /** Where the next page begins; undefined on the last one. */
  nextBefore: number | undefined;
  total: number | undefined;
  /** doubtful: the total has to be asked for. asked: it is on its way; when it changes meanwhile, it is doubtful again. */
  count: 'sure' | 'doubtful' | 'asked';
}

/** Is the word older than what is known? Revisions grow; but a task that has left the host's memory has none any more. */
function isOlder(word: TaskBrief, known: TaskBrief): boolean {
  if (isOver(word.state) !== isOver(known.state)) return isOver(known.state);
  if (isOver(word.state)) return !known.holding && Boolean(word.holding);
  return word.revision < known.revision;
}

/** The page once these tasks have changed, in the order in which that was told. */
export function mergeTasks(page: Page, changed: Iterable<TaskBrief>, { filter, limit, before }: Wanted): Page {
  const rows = new Map(page.tasks.map((task) => [task.id, task]));
  const end = before ?? Infinity;
  let moved = 0;
  let isDoubtful = false;
  for (const task of changed) {
    const known = rows.get(task.id);
    if (known && isOlder(task, known)) continue;
    if (!known && (task.id < (page.nextBefore ?? 0) || task.id >= end)) {
      // Only its state can change. Where that plays no part, one that was there already is counted.
      isDoubtful ||= belongs(task, { ...filter, status: '' }) && (filter.status !== '' || task.id >= end);
      continue;
    }
    // The host searches whole commands, a brief has their beginning: of a row only its state is judged anew.
    const isIn = known ? hasStateOf(task, filter) : belongs(task, filter);
    moved += Number(isIn) - Number(known !== undefined);
    if (isIn) rows.set(task.id, task);
    else rows.delete(task.id);
  }
  const tasks = [...rows.values()].sort((a, b) => b.id - a.id);
  const isCut = tasks.length > limit;
  if (isCut) tasks.length = limit;
  return {
    tasks,
    nextBefore: isCut ? tasks[limit - 1]!.id : page.nextBefore,
    total: page.total === undefined ? undefined : Math.max(page.total + moved, tasks.length),
    count: isDoubtful || (moved !== 0 && page.count === 'asked') ? 'doubtful' : page.count,
  };
}

/** The page of an answer. `meanwhile`: what was told while it was on its way, which may be newer or older than it. */
export function pageOf(answer: Answer, meanwhile: Iterable<TaskBrief>, wanted: Wanted): Page {
  const { tasks, next_before, total } = answer;
  const page = mergeTasks({ tasks: tasks.map(briefOf), nextBefore: next_before, total, count: 'asked' }, meanwhile, wanted);
  return page.count === 'asked' ? { ...page, count: 'sure' } : page;
}

/** The total was asked for, or is there. */
export function askCount(page: Page): Page {
  return { ...page, count: 'asked' };
}

export function takeCount(page: Page, total: number): Page {
  return { ...page, total, count: page.count === 'doubtful' ? 'doubtful' : 'sure' };
}
