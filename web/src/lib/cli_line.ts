/* The command that does on the command line what a form does here. */
import type { Submission } from '../api/types.ts';
import { quoteWord, quoteWords } from './shell_words.ts';

/** Bytes as the option --memory takes them: the largest suffix that loses nothing. */
export function sizeOption(bytes: number): string {
  let value = bytes;
  let step = -1;
  while (value >= 1024 && value % 1024 === 0 && step < 3) {
    value /= 1024;
    step++;
  }
  return step < 0 ? String(value) : value + 'KMGT'[step]!;
}

export function submitLine(s: Submission): string {
  const options: string[] = [];
  const add = (option: string, value: string | undefined): void => {
    if (value) options.push(option, quoteWord(value));
  };
  s.targets.forEach((target) => add('-t', target));
  add('-c', s.cores ? String(s.cores) : undefined);
  add('-m', s.memory_bytes ? sizeOption(s.memory_bytes) : undefined);
  add('--image', s.image);
  s.env?.forEach((variable) => add('--env', variable));
  s.mounts?.forEach((mount) => add('--mount', mount));
  add('--name', s.name);
  const command = s.command.length ? quoteWords(s.command) : 'COMMAND';
  return ['kohakuriver task submit', ...options, '--', command].join(' ');
}
