import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { quoteWord, quoteWords, splitWords } from '../../src/lib/shell_words.ts';

const WORDS = ['train.py', '--lr=1e-4', 'a b', "it's", '"x"', '$HOME', '`id`', '$(id)', '', '*', '~', '\\', 'a\\b', "'", "''", 'x\ny', '!', '#', 'ü', ';rm', '-n', '%s'];

test('quoted words reach a program as they were, through a real shell', () => {
  const script = `printf '%s\\0' ${quoteWords(WORDS)}`;
  const out = execFileSync('/bin/sh', ['-c', script]).toString('utf8');
  assert.deepEqual(out.split('\0').slice(0, -1), WORDS);
});

test('plain words stay as they are', () => {
  for (const word of ['mynode::0,1', '/data:/data:ro', 'a@b.c', 'X=1', '100%']) assert.equal(quoteWord(word), word);
});

test('what was quoted is split into the same words again', () => {
  assert.deepEqual(splitWords(quoteWords(WORDS)).words, WORDS);
});

test('words are split as a shell splits them', () => {
  for (const line of ['a b  c', `a "b c" 'd e'`, 'a\\ b c', `x="1 2" y`, `""`, `a"b"'c'd`, `"a\\"b" "\\$x" "\\n"`, "  lead  trail  "]) {
    const out = execFileSync('/bin/sh', ['-c', `printf '%s\\0' ${line}`]).toString('utf8');
    assert.deepEqual(splitWords(line).words, out.split('\0').slice(0, -1), line);
  }
});

test('a quote that is not closed is told', () => {
  assert.match(splitWords(`echo "x`).problem ?? '', /double quote/);
  assert.match(splitWords(`echo 'x`).problem ?? '', /single quote/);
  assert.match(splitWords('echo \\').problem ?? '', /backslash/);
});

test('what only a shell would understand is told, and only when it is not quoted', () => {
  for (const [line, c] of [['a | b', '|'], ['a > f', '>'], ['echo $X', '$'], ['ls *', '*'], ['a && b', '&']] as const) {
    assert.equal(splitWords(line).needsShell, c, line);
  }
  assert.equal(splitWords(`echo '$X' "a|b" c\\*`).needsShell, undefined);
});
