import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mergePatch } from '../../src/lib/merge_patch.ts';

// The examples of RFC 7396, appendix A.
const EXAMPLES: [unknown, unknown, unknown][] = [
  [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
  [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
  [{ a: 'b' }, { a: null }, {}],
  [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
  [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
  [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
  [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
  [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
  [['a', 'b'], ['c', 'd'], ['c', 'd']],
  [{ a: 'b' }, ['c'], ['c']],
  [{ a: 'foo' }, null, null],
  [{ a: 'foo' }, 'bar', 'bar'],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: 'b', c: null }, { a: 'b' }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
];

test('merge patches do what RFC 7396 says', () => {
  for (const [target, patch, result] of EXAMPLES) assert.deepEqual(mergePatch(target, patch), result);
});

test('a patch changes neither the target nor itself', () => {
  const target = { a: { b: 1 }, c: 2 };
  const patch = { a: { b: null }, c: 3 };
  assert.deepEqual(mergePatch(target, patch), { a: {}, c: 3 });
  assert.deepEqual([target, patch], [{ a: { b: 1 }, c: 2 }, { a: { b: null }, c: 3 }]);
});

test('a member called __proto__ is a member and nothing else', () => {
  const result = mergePatch({}, JSON.parse('{"__proto__": {"polluted": 1}}')) as Record<string, unknown>;
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  assert.equal(Object.getPrototypeOf(result), Object.prototype);
});
