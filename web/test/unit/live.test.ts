import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Gpu } from '../../src/api/types.ts';
import { ClusterState } from '../../src/live/cluster_state.ts';
import type { Snapshot } from '../../src/live/protocol.ts';
import { curveOf, extend } from '../../src/charts/figures.ts';

function snapshot(): Snapshot {
  return {
    now_ms: 1, version: '0', cluster_id: 'c', nodes: [], vps: [], task_counts: {}, storage_problem: 'full',
    gpus: [{ node: 'n', index: 0, utilization_percent: 5, holder: { kind: 'task', task_id: 1, name: 'a', since_ms: 1, epoch: 1 } } as unknown as Gpu],
  };
}

test('a page that comes later is given what all changes have made', () => {
  const state = new ClusterState();
  state.apply({ now_ms: 1, gpus: [{ node: 'n', index: 9 }] });
  assert.equal(state.get(), undefined, 'before a snapshot nothing is known');
  state.set(snapshot());
  state.apply({ now_ms: 2, gpus: [{ node: 'n', index: 0, utilization_percent: 90, holder: null } as never, { node: 'n', index: 1 }], storage_problem: null, task_counts: { running: 1 } });
  const now = state.get()!;
  assert.deepEqual(now.gpus, [{ node: 'n', index: 0, utilization_percent: 90 }, { node: 'n', index: 1 }]);
  assert.equal('storage_problem' in now, false);
  assert.deepEqual(now.task_counts, { running: 1 });
  state.apply({ now_ms: 3, gpus_gone: [{ node: 'n', index: 0 }] });
  assert.equal(state.get()!.gpus.length, 1);
});

test('curves keep what is unknown as a gap and go on with the stream', () => {
  const history = { from_ms: 0, step_ms: 1000, utilization_percent: [1, null, 3], memory_used_bytes: [], temperature_celsius: [], power_mw: [] };
  const curve = curveOf(history, 'utilization_percent');
  assert.deepEqual(curve, { seconds: [0, 1, 2], values: [1, null, 3] });
  assert.deepEqual(extend(curve, 3000, undefined, 2000), { seconds: [1, 2, 3], values: [null, 3, null] });
  assert.deepEqual(extend(curve, 60000, 7, 2000), { seconds: [60], values: [7] });
});
