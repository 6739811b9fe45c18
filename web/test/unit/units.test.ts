import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as units from '../../src/lib/units.ts';
import { utc } from '../../src/lib/times.ts';

const plain = (text: string): string => text.replaceAll('\u00a0', ' ');

test('what is not known is a dash and never a zero', () => {
  for (const show of [units.bytes, units.percent, units.celsius, units.watts, units.megahertz, units.count]) {
    assert.equal(show(undefined), units.UNKNOWN);
    assert.notEqual(show(0), units.UNKNOWN);
  }
  assert.equal(units.share(undefined, 1), undefined);
  assert.equal(units.share(1, undefined), undefined);
  assert.equal(units.share(0, 0), undefined);
  assert.equal(plain(units.bytesOf(undefined, 2 ** 30)), '– of 1 GiB');
  assert.equal(units.bytesOf(undefined, undefined), '–');
});

test('units are spelled', () => {
  assert.equal(plain(units.bytes(63963136000)), '59.6 GiB');
  assert.equal(plain(units.bytes(0)), '0 B');
  assert.equal(plain(units.bytes(1024)), '1 KiB');
  assert.equal(plain(units.bytesOf(4 << 20, 85520809984)), '0 of 79.6 GiB');
  assert.equal(plain(units.watts(512499)), '512 W');
  assert.equal(plain(units.celsius(64)), '64 °C');
  assert.equal(plain(units.percent(0)), '0 %');
});

test('spans have at most two units', () => {
  const cases: [number, string][] = [[0, '0 s'], [59999, '59 s'], [60000, '1 min'], [125000, '2 min 5 s'], [3600000, '1 h'], [3 * 3600000 + 12 * 60000, '3 h 12 min'], [50 * 3600000, '2 d 2 h'], [20 * 86400000, '20 d'], [-5, '0 s']];
  for (const [ms, text] of cases) assert.equal(plain(units.span(ms)), text);
});

test('rough spans have one unit', () => {
  assert.equal(plain(units.roughSpan(3 * 3600000 + 12 * 60000)), '3 h');
  assert.equal(plain(units.roughSpan(32 * 60000)), '32 min');
});

test('sizes are read as the command line reads them', () => {
  const cases: [string, number | undefined][] = [['512M', 512 * 2 ** 20], ['16G', 16 * 2 ** 30], ['1.5T', 1.5 * 2 ** 40], ['64 GiB', 64 * 2 ** 30], ['100', 100], ['0', 0], ['', undefined], ['-1G', undefined], ['1e9', undefined], ['16X', undefined], ['9999999P', undefined]];
  for (const [text, bytes] of cases) assert.equal(units.parseBytes(text), bytes, text);
});

test('a share stays between 0 and 1', () => {
  assert.equal(units.share(5, 4), 1);
  assert.equal(units.share(1, 4), 0.25);
});

test('the exact time is UTC', () => {
  assert.equal(utc(Date.UTC(2026, 10, 26, 22, 30, 4, 123)), '2026-11-26 22:30:04.123 UTC');
});
