import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Task } from '../../src/api/types.ts';
import { sizeOption, submitLine } from '../../src/lib/cli_line.ts';
import { EMPTY_FORM, fieldOf, formOf, read, tell } from '../../src/lib/submit_form.ts';
import { gpusOf, nodeOf, targetText, targetsOf } from '../../src/lib/target.ts';

test('targets are written as the grammar says', () => {
  assert.equal(targetText({ node: 'mynode', gpus: [1, 0] }), 'mynode::0,1');
  assert.equal(targetText({ node: 'mynode', numa: 0, gpus: [1] }), 'mynode:0::1');
  assert.deepEqual(targetsOf([{ node: 'a', gpus: [0, 1] }, { node: 'b', gpus: [2] }], false), ['a::0,1', 'b::2']);
  assert.deepEqual(targetsOf([{ node: 'a', gpus: [0, 1] }, { node: 'b', gpus: [] }], true), ['a::0', 'a::1']);
  assert.equal(nodeOf('mynode:0::1,2'), 'mynode');
  assert.deepEqual(gpusOf('mynode:0::1,2'), [1, 2]);
  assert.deepEqual(gpusOf('mynode'), []);
});

test('a form is the submission that the command line would send', () => {
  const { submission, problems } = read({
    ...EMPTY_FORM, command: `python train.py --name "a b"`, choices: [{ node: 'mynode', numa: 0, gpus: [0, 1] }], typed: ' node2::0 ',
    name: 'my run', cores: '8', memory: '64G', env: 'A=1\n\nB=x y', mounts: '/data:/data:ro', image: 'img:1',
  });
  assert.deepEqual(problems, {});
  assert.deepEqual(submission, {
    targets: ['mynode:0::0,1', 'node2::0'], command: ['python', 'train.py', '--name', 'a b'], image: 'img:1', name: 'my run',
    cores: 8, memory_bytes: 64 * 2 ** 30, env: ['A=1', 'B=x y'], mounts: ['/data:/data:ro'],
  });
  assert.equal(
    submitLine(submission),
    "kohakuriver task submit -t mynode:0::0,1 -t node2::0 -c 8 -m 64G --image img:1 --env A=1 --env 'B=x y' --mount /data:/data:ro --name 'my run' -- python train.py --name 'a b'",
  );
});

test('a script for the shell is one word', () => {
  const { submission } = read({ ...EMPTY_FORM, command: 'echo $X | wc', inShell: true });
  assert.deepEqual(submission.command, ['sh', '-c', 'echo $X | wc']);
  assert.equal(submitLine(submission), "kohakuriver task submit -- sh -c 'echo $X | wc'");
});

test('what cannot be sent is told at its field', () => {
  const { problems } = read({ ...EMPTY_FORM, command: '"x', cores: 'many', memory: '1Q', env: 'nonsense' });
  assert.deepEqual(Object.keys(problems).sort(), ['command', 'cores', 'env', 'memory']);
  assert.match(read(EMPTY_FORM).problems.command ?? '', /needed/);
  assert.match(read({ ...EMPTY_FORM, command: 'a | b' }).hint ?? '', /\|/);
});

test('sizes lose nothing on their way to the command line', () => {
  assert.equal(sizeOption(1.5 * 2 ** 30), '1536M');
  assert.equal(sizeOption(1000), '1000');
  assert.equal(sizeOption(2 ** 40), '1T');
});

test("the host's refusals come to the fields that they speak of", () => {
  for (const [message, field] of [
    ['task: "cores" is -1, it must lie between 0 and 4096', 'cores'],
    ['no node fits: 500 cores are asked for, mynode has 2', 'cores'],
    ['no node fits: 45.5 TiB of memory are asked for, mynode has 23.5 GiB', 'memory'],
    ['task: "memory_bytes" is 5, the least a container can have is 6 MiB', 'memory'],
    ['task: the mount "zz" is not of the form /SOURCE:/TARGET[:ro] (absolute paths without "..")', 'mounts'],
    ['task: CUDA_VISIBLE_DEVICES is set by the lease and cannot be given: ask for GPUs with -t NODE::GPU', 'env'],
    ['task: no command is given', 'command'],
    ['task: "name" has 900 bytes, at most 128 are accepted', 'name'],
    ['GPU 0 of mynode is held by task 1 (train-llama) since 2026-11-26 22:30:01Z (15m 31s); free GPUs on mynode: 3', 'targets'],
  ] as const) {
    assert.equal(fieldOf(message), field, message);
  }
  const told = tell('2 targets are refused', [{ target: 'a::0', reason: 'GPU 0 of a is held' }, { target: 'b', reason: '9 cores are asked for, b has 2' }]);
  assert.deepEqual(told.fields, { cores: '9 cores are asked for, b has 2' });
  assert.equal(told.targets.length, 2);
  assert.deepEqual(tell('the host cannot be reached', []).fields, { targets: 'the host cannot be reached' });
});

test('a task makes the form that would submit it again', () => {
  const { submission } = read({ ...EMPTY_FORM, command: 'a "b c"', choices: [{ node: 'n', gpus: [2] }], memory: '2G', cores: '1' });
  const form = formOf({ ...submission, target: 'n::2', env: [], mounts: [], cores: 1, memory_bytes: 2 ** 31 } as unknown as Task);
  assert.deepEqual(read(form).submission, submission);
});
