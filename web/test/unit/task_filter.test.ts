import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TaskBrief } from '../../src/api/types.ts';
import { belongs } from '../../src/lib/task_filter.ts';

const ALL = { status: '', node: '', owner: '', q: '' };

function task(id: number, change: Partial<TaskBrief> = {}): TaskBrief {
  return { id, state: 'running', node: 'n', target: 'n::0', gpus: [{ index: 0, uuid: 'GPU-0' }], command_text: 'python train.py', created_ms: 1, revision: 1, ...change };
}

test('a task belongs into a list as the host would judge it', () => {
  const held = task(7, { owner: 'ana', name: 'big run' });
  for (const [filter, yes] of [
    [{}, true], [{ status: 'running' }, true], [{ status: 'failed,running' }, true], [{ status: 'failed' }, false], [{ status: 'live' }, true],
    [{ node: 'n' }, true], [{ node: 'm' }, false], [{ owner: 'ana' }, true], [{ owner: 'an' }, false], [{ q: 'BIG' }, true], [{ q: 'train' }, true],
    [{ q: '7' }, true], [{ q: 'zzz' }, false], [{ gpu: 'GPU-0' }, true], [{ gpu: 'GPU-1' }, false],
  ] as const) {
    assert.equal(belongs(held, { ...ALL, ...filter }), yes, JSON.stringify(filter));
  }
  assert.equal(belongs(task(7, { state: 'failed' }), { ...ALL, status: 'live' }), false);
});
