/* The form of a submission, without its looks: what is sent, what cannot be sent, and to which field a refusal belongs. */
import type { Refusal, Submission, Task } from '../api/types.ts';
import { quoteWords, splitWords } from './shell_words.ts';
import { gpusOf, nodeOf, targetsOf, type Choice } from './target.ts';
import { bytes, parseBytes } from './units.ts';
import { sizeOption } from './cli_line.ts';

export interface Form {
  command: string;
  /** The command is a script for `sh -c`. */
  inShell: boolean;
  choices: Choice[];
  onePerGpu: boolean;
  /** Targets that were typed, separated by blanks. */
  typed: string;
  image: string;
  name: string;
  owner: string;
  cores: string;
  memory: string;
  /** One per line. */
  env: string;
  mounts: string;
}

export type Field = 'command' | 'targets' | 'image' | 'name' | 'owner' | 'cores' | 'memory' | 'env' | 'mounts';
export type Problems = Partial<Record<Field, string>>;

export const EMPTY_FORM: Form = {
  command: '', inShell: false, choices: [], onePerGpu: false, typed: '', image: '', name: '', owner: '', cores: '', memory: '', env: '', mounts: '',
};

function lines(text: string): string[] {
  return text.split('\n').map((line) => line.trim()).filter(Boolean);
}

/** What the form stands for, and what keeps it from being sent. */
export function read(form: Form): { submission: Submission; problems: Problems; hint?: string } {
  const problems: Problems = {};
  const split = splitWords(form.command);
  const command = form.inShell ? (form.command.trim() ? ['sh', '-c', form.command] : []) : split.words;
  if (!form.inShell && split.problem) problems.command = split.problem;
  else if (command.length === 0) problems.command = 'a command is needed';
  const submission: Submission = { targets: [...targetsOf(form.choices, form.onePerGpu), ...form.typed.split(/\s+/).filter(Boolean)], command };
  const set = <K extends keyof Submission>(key: K, value: Submission[K] | ''): void => {
    if (value !== undefined && value !== '') submission[key] = value;
  };
  set('image', form.image.trim());
  set('name', form.name.trim());
  set('owner', form.owner.trim());
  if (form.cores.trim()) {
    if (/^\d{1,4}$/.test(form.cores.trim())) set('cores', Number(form.cores));
    else problems.cores = 'a whole number is needed';
  }
  if (form.memory.trim()) {
    const size = parseBytes(form.memory);
    if (size === undefined) problems.memory = 'a size such as 512M or 16G is needed';
    else set('memory_bytes', size);
  }
  const env = lines(form.env);
  const mounts = lines(form.mounts);
  if (env.length) submission.env = env;
  if (mounts.length) submission.mounts = mounts;
  const plain = env.find((entry) => !/^[^=]+=/.test(entry));
  if (plain !== undefined) problems.env = `"${plain}" is not of the form NAME=VALUE`;
  const hint = !form.inShell && split.needsShell ? `No shell reads this: ${split.needsShell} is passed on as it is. Tick “run in a shell” if a shell shall read it.` : undefined;
  return hint ? { submission, problems, hint } : { submission, problems };
}

const WORDS: [RegExp, Field][] = [
  [/"memory_bytes"|of memory (are|is) asked/, 'memory'],
  [/"cores"|cores? (are|is) asked/, 'cores'],
  [/"mounts"|\bmounts?\b/, 'mounts'],
  [/"env"|environment|is set by the lease|variable/, 'env'],
  [/"image"|\bimage\b/, 'image'],
  [/"name"/, 'name'],
  [/"owner"/, 'owner'],
  [/"command"|no command/, 'command'],
];

/** The field that a refusal speaks of; what is about none is about where it should run. */
export function fieldOf(message: string): Field {
  return WORDS.find(([pattern]) => pattern.test(message))?.[1] ?? 'targets';
}

export interface Told {
  fields: Problems;
  /** By target as it was sent; '' when placement was to choose and no field is to blame. */
  targets: Refusal[];
}

/** A refusal, brought to the fields and targets that it is about. */
export function tell(message: string, refusals: readonly Refusal[]): Told {
  if (refusals.length === 0) return { fields: { [fieldOf(message)]: message }, targets: [] };
  const fields: Problems = {};
  for (const { reason } of refusals) {
    const field = fieldOf(reason);
    if (field !== 'targets') fields[field] ??= reason;
  }
  return { fields, targets: refusals.filter(({ target, reason }) => target !== '' || fieldOf(reason) === 'targets') };
}

/** The form that would submit the same again. */
export function formOf(task: Task): Form {
  const inShell = task.command.length === 3 && task.command[0] === 'sh' && task.command[1] === '-c';
  const gpus = gpusOf(task.target);
  const choice: Choice = { node: nodeOf(task.target), gpus, numa: task.numa };
  return {
    ...EMPTY_FORM,
    command: inShell ? task.command[2]! : quoteWords(task.command),
    inShell,
    choices: gpus.length ? [choice] : [],
    typed: gpus.length ? '' : task.target,
    image: task.image ?? '',
    name: task.name ?? '',
    cores: task.cores ? String(task.cores) : '',
    memory: task.memory_bytes ? sizeOption(task.memory_bytes) : '',
    env: task.env.join('\n'),
    mounts: task.mounts.join('\n'),
  };
}

/** "64G" -> "64 GiB"; for whoever types. */
export function sizeEcho(text: string): string {
  const size = parseBytes(text);
  return size === undefined ? '' : bytes(size);
}
