import assert from 'node:assert/strict';
import { test } from 'node:test';
import { effect } from '@preact/signals';
import type { Gpu, NodeSummary } from '../../src/api/types.ts';
import type { Snapshot } from '../../src/live/protocol.ts';
import * as store from '../../src/live/store.ts';

const node = (name: string): NodeSummary => ({ name, online: true, memory_used_bytes: 1 }) as NodeSummary;
const gpu = (name: string, index: number): Gpu => ({ node: name, index, state: 'free', utilization_percent: 0 }) as Gpu;

function snapshot(version: string): Snapshot {
  return { now_ms: Date.now(), version, cluster_id: 'c', nodes: [node('n10'), node('n2')], gpus: [gpu('n2', 1), gpu('n2', 0), gpu('n10', 0)], vps: [], task_counts: {} };
}

test('nodes stand in the order that people count in, cards by their numbers', () => {
  store.take({ type: 'snapshot', snapshot: snapshot('1') });
  assert.deepEqual(store.roster.value.map((row) => [row.node, row.cards.map((card) => card.value.index)]), [['n2', [0, 1]], ['n10', [0]]]);
});

test('a figure touches its own card alone, a state the lists as well', () => {
  let others = 0;
  const stop = effect(() => {
    store.gpus.get('n2::0')!.value;
    store.roster.value;
    store.shape.value;
    others++;
  });
  store.take({ type: 'changes', changes: { now_ms: 1, gpus: [{ node: 'n2', index: 1, utilization_percent: 50 }], nodes: [{ name: 'n2', memory_used_bytes: 2 }] } });
  assert.equal(others, 1);
  assert.equal(store.gpus.get('n2::1')!.value.utilization_percent, 50);
  store.take({ type: 'changes', changes: { now_ms: 2, gpus: [{ node: 'n2', index: 1, state: 'in_use' }] } });
  assert.equal(others, 2);
  stop();
});

test('nodes and cards come and go', () => {
  store.take({ type: 'changes', changes: { now_ms: 3, nodes: [node('n3')], gpus: [gpu('n3', 0)], nodes_gone: ['n10'], gpus_gone: [{ node: 'n10', index: 0 }] } });
  assert.deepEqual(store.roster.value.map((row) => row.node), ['n2', 'n3']);
});

test('a store that cannot be written is told, and told to be over', () => {
  store.take({ type: 'changes', changes: { now_ms: 4, storage_problem: 'disk full' } });
  assert.equal(store.storageProblem.value, 'disk full');
  store.take({ type: 'changes', changes: { now_ms: 5 } });
  assert.equal(store.storageProblem.value, 'disk full');
  store.take({ type: 'changes', changes: { now_ms: 6, storage_problem: null } });
  assert.equal(store.storageProblem.value, undefined);
});

test('signals survive a fresh snapshot; what is not in it is gone', () => {
  const kept = store.gpus.get('n2::0');
  store.take({ type: 'snapshot', snapshot: snapshot('1') });
  assert.equal(store.gpus.get('n2::0'), kept);
  assert.equal(store.gpus.has('n3::0'), false);
  assert.equal(store.isOutdated.value, false);
  store.take({ type: 'snapshot', snapshot: snapshot('2') });
  assert.equal(store.isOutdated.value, true);
});
