/* A page of tasks that the host filtered, kept up to date by the stream. */
import { useEffect, useState } from 'preact/hooks';
import { query } from '../api/client.ts';
import type { Task, TaskBrief } from '../api/types.ts';
import { briefOf, mergeTasks, type TaskFilter } from '../lib/task_filter.ts';
import { onTasks } from '../live/store.ts';
import { useRest } from './use_rest.ts';

export interface TaskPage {
  tasks: TaskBrief[] | undefined;
  /** Where the next page begins; undefined on the last one. */
  nextBefore: number | undefined;
  total: number | undefined;
  error: Error | undefined;
  again: () => void;
}

interface Answer {
  tasks: Task[];
  next_before?: number;
  total?: number;
}

export function useTasks(filter: TaskFilter, options: { limit: number; before?: number | undefined; count?: boolean } | undefined): TaskPage {
  const path = options && '/tasks' + query({ ...filter, limit: options.limit, before: options.before, count: options.count ? 1 : undefined });
  const rest = useRest<Answer>(path);
  const [rows, setRows] = useState<{ of: Answer | undefined; tasks: TaskBrief[] }>({ of: undefined, tasks: [] });
  const isFresh = rows.of === rest.data;
  useEffect(() => {
    if (rest.data) setRows({ of: rest.data, tasks: rest.data.tasks.map(briefOf) });
  }, [rest.data]);
  useEffect(() => {
    if (!options) return;
    return onTasks((changed) =>
      setRows((old) => ({ of: old.of, tasks: mergeTasks(old.tasks, changed, filter, options.before === undefined, options.limit) })),
    );
  }, [path]);
  const tasks = rest.data && (isFresh ? rows.tasks : rest.data.tasks.map(briefOf));
  return { tasks, nextBefore: rest.data?.next_before, total: rest.data?.total, error: rest.error, again: rest.again };
}
