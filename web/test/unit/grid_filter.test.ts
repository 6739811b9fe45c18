import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Gpu } from '../../src/api/types.ts';
import { filterFromQuery, filterToQuery, isFiltering, matches } from '../../src/lib/grid_filter.ts';

function gpu(change: Partial<Gpu> = {}): Gpu {
  return {
    node: 'mynode', online: true, index: 3, uuid: 'GPU-b8a1abcd', pci_address: '0000:ab:00.0', name: 'NVIDIA H100', condition: 'ok',
    free: false, state: 'in_use', state_since_ms: 1, way_out: 'x', health: 'ok', memory_total_bytes: 85520809984,
    holder: { kind: 'task', task_id: 17, name: 'Train', owner: 'ana@box', since_ms: 1, epoch: 1 }, ...change,
  };
}

const filter = (q: string) => filterFromQuery(new URLSearchParams(q));

test('an address is a filter and a filter is an address', () => {
  const query = { q: 'h100', free: '1', model: 'NVIDIA H100', memory: '80', user: 'ana@box', node: 'mynode', state: 'free,vfio' };
  assert.deepEqual(filterToQuery(filterFromQuery(new URLSearchParams(query))), query);
  assert.equal(isFiltering(filter('')), false);
  assert.equal(isFiltering(filter('view=dense')), false);
  assert.equal(isFiltering(filter('free=1')), true);
});

test('nonsense in an address is no filter', () => {
  assert.equal(isFiltering(filter('memory=-5&state=nonsense&free=yes')), false);
  assert.equal(isFiltering(filter('memory=x')), false);
});

test('each part of the filter holds cards back', () => {
  for (const [query, yes] of [
    ['', true], ['free=1', false], ['model=NVIDIA+H100', true], ['model=A100', false], ['memory=80', true], ['memory=96', false],
    ['user=ana@box', true], ['user=bob', false], ['node=mynode', true], ['node=node2', false], ['state=in_use,free', true], ['state=free', false],
    ['q=h100', true], ['q=train', true], ['q=ANA', true], ['q=task+17', true], ['q=b8a1', true], ['q=mynode::3', true], ['q=mynode::', true],
    ['q=mynode::33', false], ['q=node::3', false], ['q=bob', false],
  ] as const) {
    assert.equal(matches(gpu(), filter(query)), yes, query);
  }
});

test('a card whose memory is not known is not "80 GiB or more"', () => {
  const card = gpu();
  delete card.memory_total_bytes;
  assert.equal(matches(card, filter('memory=80')), false);
  assert.equal(matches(card, filter('')), true);
});
