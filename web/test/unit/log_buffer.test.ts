import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LogBuffer, plainLine } from '../../src/lib/log_buffer.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test('lines come together from pieces, also when a letter is cut in two', () => {
  const log = new LogBuffer();
  const data = bytes('grün\nzwei\ndr');
  for (const byte of data) log.push(Uint8Array.of(byte));
  assert.deepEqual(log.lines, ['grün', 'zwei']);
  assert.equal(log.tail, 'dr');
});

test('colours go, and of what was written over the last is left', () => {
  assert.equal(plainLine('\x1b[1;31mred\x1b[0m plain'), 'red plain');
  assert.equal(plainLine(' 10%\r 20%\r 30%'), ' 30%');
  assert.equal(plainLine('dos\r'), 'dos');
  assert.equal(plainLine('\x1b]0;title\x07x'), 'x');
  assert.equal(plainLine('a\x00b\tc'), 'a\ufffdb\tc');
});

test('memory is bounded whatever comes', () => {
  const log = new LogBuffer(10000, 1000);
  for (let i = 0; i < 5000; i++) log.push(bytes(`line ${i}\n`));
  const kept = log.lines.reduce((sum, line) => sum + line.length + 1, 0);
  assert.ok(kept <= 10000, String(kept));
  assert.equal(log.lines.at(-1), 'line 4999');
  assert.equal(log.dropped + log.lines.length, 5000);
  assert.equal(log.lines[0], `line ${log.dropped}`);
  log.push(bytes('x'.repeat(100000)));
  assert.ok(log.tail.length <= 1000);
  assert.ok(log.lines.reduce((sum, line) => sum + line.length + 1, 0) <= 11000);
});

test('a text is found without regard to case', () => {
  const log = new LogBuffer();
  log.push(bytes('Epoch 1\nloss\nepoch 2\n'));
  assert.deepEqual(log.find('EPOCH'), [0, 2]);
  assert.deepEqual(log.find(''), []);
});
