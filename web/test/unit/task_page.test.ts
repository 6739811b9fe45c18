import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Task, TaskBrief } from '../../src/api/types.ts';
import { askCount, mergeTasks, pageOf, takeCount, type Page, type Wanted } from '../../src/lib/task_page.ts';

const ALL = { status: '', node: '', owner: '', q: '' };
const RUNNING = { ...ALL, status: 'running' };
const NEWEST: Wanted = { filter: ALL, limit: 3 };

function task(id: number, change: Partial<TaskBrief> = {}): TaskBrief {
  return { id, state: 'running', node: 'n', target: 'n::0', gpus: [{ index: 0, uuid: 'GPU-0' }], command_text: 'python train.py', created_ms: 1, revision: 1, ...change };
}

function answer(briefs: TaskBrief[], total?: number, next_before?: number) {
  const tasks = briefs.map(({ command_text, ...rest }) => ({ ...rest, command: command_text.split(' ') }) as unknown as Task);
  return { tasks, ...(total === undefined ? {} : { total }), ...(next_before === undefined ? {} : { next_before }) };
}

const ids = (page: Page): number[] => page.tasks.map((t) => t.id);
const states = (page: Page): string[] => page.tasks.map((t) => `${t.id} ${t.state}`);

test('the stream renews, adds and removes rows', () => {
  const page = pageOf(answer([task(5), task(4), task(3)], 5, 3), [], NEWEST);
  const after = (changed: TaskBrief[], wanted: Partial<Wanted> = {}): Page => mergeTasks(page, changed, { ...NEWEST, ...wanted });
  assert.deepEqual(ids(after([task(6)])), [6, 5, 4]);
  assert.equal(after([task(6)]).nextBefore, 4, 'the next page begins with the one that made room');
  assert.deepEqual(ids(after([task(6)], { before: 6 })), [5, 4, 3], 'not on an older page');
  assert.deepEqual(ids(after([task(1)])), [5, 4, 3], 'an old task that changes stays where it is');
  assert.deepEqual(ids(after([task(4, { state: 'failed', revision: 2 })], { filter: RUNNING })), [5, 3]);
  assert.deepEqual(states(after([task(4, { state: 'failed', revision: 2 })])), ['5 running', '4 failed', '3 running']);
});

test('a task that comes to fit the filter takes its place, also below a newer one', () => {
  const page = pageOf(answer([task(9), task(3)], 2), [], { filter: RUNNING, limit: 3 });
  const after = mergeTasks(page, [task(5)], { filter: RUNNING, limit: 3 });
  assert.deepEqual([ids(after), after.total, after.count], [[9, 5, 3], 3, 'sure']);
  const full = pageOf(answer([task(9), task(5)], 4, 5), [], { filter: RUNNING, limit: 2 });
  assert.deepEqual(ids(mergeTasks(full, [task(4)], { filter: RUNNING, limit: 2 })), [9, 5], 'that is on the next page');
});

test('a word that is older than the row is not believed', () => {
  const over = (known: TaskBrief, word: TaskBrief): string => {
    const [row] = mergeTasks(pageOf(answer([known], 1), [], NEWEST), [word], NEWEST).tasks;
    return `${row!.state} ${row!.holding ?? ''}`.trim();
  };
  assert.equal(over(task(4, { revision: 9 }), task(4, { state: 'pending', revision: 2 })), 'running');
  assert.equal(over(task(4, { state: 'failed', revision: 0 }), task(4, { revision: 7 })), 'failed', 'it has left the memory of the host');
  assert.equal(over(task(4, { revision: 9 }), task(4, { state: 'failed', revision: 2 })), 'failed', 'an end is final');
  const held = task(4, { state: 'failed', holding: 'its card is in use', revision: 5 });
  const released = task(4, { state: 'failed', revision: 0 });
  assert.equal(over(released, held), 'failed');
  assert.equal(over(held, released), 'failed');
});

test('what was told while the answer was on its way is kept', () => {
  const starting = answer([task(5, { state: 'starting', revision: 2 }), task(4)], 2);
  const page = pageOf(starting, [task(5, { revision: 3 }), task(6, { state: 'pending' })], NEWEST);
  assert.deepEqual(states(page), ['6 pending', '5 running', '4 running']);
  assert.equal(page.total, 3);
  assert.equal(page.count, 'doubtful', 'whether the total had it already is asked');
  const newer = pageOf(answer([task(5, { state: 'failed', revision: 4 }), task(4)], 2), [task(5, { state: 'starting', revision: 2 })], NEWEST);
  assert.deepEqual([states(newer), newer.total, newer.count], [['5 failed', '4 running'], 2, 'sure'], 'the answer may be the newer one');
  assert.equal(pageOf(starting, [], NEWEST).count, 'sure');
  const gone = pageOf(answer([task(5), task(4)], 2), [task(5, { state: 'completed', revision: 2 })], { ...NEWEST, filter: RUNNING });
  assert.deepEqual([ids(gone), gone.total], [[4], 1]);
});

test('the total follows what comes and goes in the range of the page', () => {
  const wanted = { filter: RUNNING, limit: 3 };
  const full = pageOf(answer([task(5), task(4), task(3)], 9, 3), [], wanted);
  const total = (page: Page): unknown[] => [page.total, page.count];
  assert.deepEqual(total(mergeTasks(full, [task(6), task(7), task(6)], wanted)), [11, 'sure'], 'each once');
  assert.deepEqual(total(mergeTasks(full, [task(5, { state: 'failed' }), task(5, { state: 'failed' })], wanted)), [8, 'sure']);
  assert.deepEqual(total(mergeTasks(full, [task(4, { revision: 8 })], wanted)), [9, 'sure']);
  const all = pageOf(answer([task(5), task(4), task(3)], 9, 3), [], NEWEST);
  assert.deepEqual(total(mergeTasks(all, [task(6)], NEWEST)), [10, 'sure']);
  assert.deepEqual(total(mergeTasks(all, [task(1, { state: 'failed' })], NEWEST)), [9, 'sure'], 'it was counted before');
  assert.equal(mergeTasks(pageOf(answer([task(5)]), [], NEWEST), [task(6)], NEWEST).total, undefined, 'nobody wants to know');
});

test('the total is asked for where the page cannot know it', () => {
  const full = (filter: typeof ALL, before?: number): Wanted => ({ filter, limit: 3, before });
  const count = (changed: TaskBrief, wanted: Wanted): string =>
    mergeTasks(pageOf(answer([task(5), task(4), task(3)], 9, 3), [], wanted), [changed], wanted).count;
  assert.equal(count(task(1), full(RUNNING)), 'doubtful', 'it ran before, or it does not');
  assert.equal(count(task(1, { state: 'failed' }), full(RUNNING)), 'doubtful');
  assert.equal(count(task(1), full({ ...RUNNING, node: 'm' })), 'sure', 'never one of these');
  assert.equal(count(task(8), full(ALL, 6)), 'doubtful', 'new, or seen on a newer page');
  assert.equal(count(task(8), full({ ...ALL, owner: 'ana' }, 6)), 'sure');
  assert.equal(count(task(1), full(ALL, 6)), 'sure');
});

test('a total that was asked for is believed unless it moved meanwhile', () => {
  const wanted = { filter: RUNNING, limit: 3 };
  const doubtful = mergeTasks(pageOf(answer([task(5), task(4), task(3)], 9, 3), [], wanted), [task(1)], wanted);
  const asked = askCount(doubtful);
  assert.deepEqual([takeCount(asked, 10).total, takeCount(asked, 10).count], [10, 'sure']);
  assert.equal(takeCount(mergeTasks(asked, [task(4, { revision: 2 })], wanted), 10).count, 'sure', 'that moves nothing');
  for (const change of [task(6), task(4, { state: 'failed' }), task(2)]) {
    assert.equal(takeCount(mergeTasks(asked, [change], wanted), 10).count, 'doubtful', String(change.id));
  }
});

test('a long command that was found by its end stays in the list', () => {
  const wanted = { filter: { ...ALL, q: 'the end' }, limit: 3 };
  const page = pageOf(answer([task(5, { command_text: 'x … the end' })], 1), [], wanted);
  assert.deepEqual(states(mergeTasks(page, [task(5, { state: 'failed', command_text: 'x …', revision: 2 })], wanted)), ['5 failed']);
});
