/* Targets as docs/gpu-allocation.md writes them: NODE[:NUMA][::GPU[,GPU…]]. Only the host judges them; here they are put together. */

export interface Choice {
  node: string;
  numa?: number | undefined;
  gpus: readonly number[];
}

export function targetText(choice: Choice): string {
  const numa = choice.numa === undefined ? '' : `:${choice.numa}`;
  const gpus = [...choice.gpus].sort((a, b) => a - b);
  return choice.node + numa + (gpus.length ? '::' + gpus.join(',') : '');
}

/** One target for each node that was chosen, or one for each card. */
export function targetsOf(choices: readonly Choice[], onePerGpu: boolean): string[] {
  return choices
    .filter((choice) => choice.gpus.length > 0)
    .flatMap((choice) => (onePerGpu ? choice.gpus.map((gpu) => targetText({ ...choice, gpus: [gpu] })) : [targetText(choice)]));
}

/** The node that a target names. */
export function nodeOf(target: string): string {
  return target.split(':', 1)[0]!;
}

/** The cards that a target names; what is no number is left out. */
export function gpusOf(target: string): number[] {
  const at = target.indexOf('::');
  return at < 0 ? [] : target.slice(at + 2).split(',').filter((t) => /^\d+$/.test(t)).map(Number);
}
