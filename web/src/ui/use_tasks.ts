/* A page of tasks that the host filtered, kept up to date by the stream. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { get, query } from '../api/client.ts';
import type { TaskBrief } from '../api/types.ts';
import type { TaskFilter } from '../lib/task_filter.ts';
import { askCount, mergeTasks, pageOf, takeCount, type Answer, type Page } from '../lib/task_page.ts';
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

/** How long changes are gathered before the total is asked for again. */
const COUNT_MS = 1000;

interface Held {
  path: string | undefined;
  page: Page | undefined;
}

export function useTasks(filter: TaskFilter, options: { limit: number; before?: number | undefined; count?: boolean } | undefined): TaskPage {
  const path = options && '/tasks' + query({ ...filter, limit: options.limit, before: options.before, count: options.count ? 1 : undefined });
  const wanted = { filter, limit: options?.limit ?? 0, before: options?.before };
  const [held, setHeld] = useState<Held>({ path: undefined, page: undefined });
  /** The last word on each task since the host was asked; undefined: no answer is on its way. */
  const meanwhile = useRef<Map<number, TaskBrief>>();
  const rest = useRest<Answer>(path, () => (meanwhile.current = new Map()));
  const change = (how: (page: Page) => Page): void =>
    setHeld((old) => (old.path === path && old.page ? { path, page: how(old.page) } : old));

  useLayoutEffect(() => {
    if (!rest.data) return;
    setHeld({ path, page: pageOf(rest.data, meanwhile.current?.values() ?? [], wanted) });
    meanwhile.current = undefined;
  }, [rest.data]);
  useEffect(() => {
    if (rest.error) meanwhile.current = undefined;
  }, [rest.error]);
  useEffect(() => {
    if (path === undefined) return;
    return onTasks((changed) => {
      for (const task of changed) {
        meanwhile.current?.delete(task.id); // so that the order is that of the last words
        meanwhile.current?.set(task.id, task);
      }
      change((page) => mergeTasks(page, changed, wanted));
    });
  }, [path]);

  const page = held.path === path ? held.page : undefined;
  const isDoubtful = options?.count === true && page?.count === 'doubtful';
  const asked = useRef(0);
  useEffect(() => {
    if (!isDoubtful) return;
    const timer = setTimeout(() => {
      const number = ++asked.current;
      change(askCount);
      get<Answer>('/tasks' + query({ ...filter, limit: 1, count: 1 }))
        .then(({ total }) => number === asked.current && total !== undefined && change((old) => takeCount(old, total)))
        .catch(() => undefined); // the next change asks again
    }, COUNT_MS);
    return () => clearTimeout(timer);
  }, [path, isDoubtful]);
  return { tasks: page?.tasks, nextBefore: page?.nextBefore, total: page?.total, error: rest.error, again: rest.again };
}
