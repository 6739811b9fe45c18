/* Figures for people, with their units spelled. What is not known is a dash, never a zero. A number and its unit are never broken
 * apart: between them stands a space that does not break. */

export const UNKNOWN = '–';

const NBSP = '\u00a0';

const STEPS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** 63963136000 -> "59.6 GiB" */
export function bytes(n: number | undefined): string {
  if (n === undefined) return UNKNOWN;
  let value = n;
  let step = 0;
  while (value >= 1023.95 && step < STEPS.length - 1) {
    value /= 1024;
    step++;
  }
  return `${step === 0 ? value : trimmed(value)}${NBSP}${STEPS[step]}`;
}

function trimmed(value: number): string {
  return value >= 99.95 ? value.toFixed(0) : value.toFixed(1).replace(/\.0$/, '');
}

/** Used of total in one unit: "59.6 of 79.6 GiB" */
export function bytesOf(used: number | undefined, total: number | undefined): string {
  if (total === undefined) return bytes(used);
  if (used === undefined) return `${UNKNOWN} of ${bytes(total)}`;
  let unit = 1;
  let step = 0;
  while (total / unit >= 1023.95 && step < STEPS.length - 1) {
    unit *= 1024;
    step++;
  }
  return `${trimmed(used / unit)} of ${trimmed(total / unit)}${NBSP}${STEPS[step]}`;
}

export function percent(n: number | undefined): string {
  return n === undefined ? UNKNOWN : `${n}${NBSP}%`;
}

export function celsius(n: number | undefined): string {
  return n === undefined ? UNKNOWN : `${n}${NBSP}°C`;
}

export function watts(milliwatts: number | undefined): string {
  return milliwatts === undefined ? UNKNOWN : `${Math.round(milliwatts / 1000)}${NBSP}W`;
}

export function megahertz(n: number | undefined): string {
  return n === undefined ? UNKNOWN : `${n}${NBSP}MHz`;
}

export function count(n: number | undefined): string {
  return n === undefined ? UNKNOWN : n.toLocaleString();
}

/** A share from 0 to 1, or undefined when one of the two is not known. */
export function share(part: number | undefined, whole: number | undefined): number | undefined {
  if (part === undefined || whole === undefined || whole <= 0) return undefined;
  return Math.min(1, Math.max(0, part / whole));
}

/** A length of time in its two largest units: "3 h 12 min" */
export function span(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s}${NBSP}s`;
  if (s < 3600) return pair(s, 60, 'min', 1, 's', 600);
  if (s < 86400) return pair(s, 3600, 'h', 60, 'min', 86400);
  return pair(s, 86400, 'd', 3600, 'h', 864000);
}

/** In its largest unit alone: "3 h" */
export function roughSpan(ms: number): string {
  const [first] = span(ms).split(' ');
  return first!;
}

function pair(s: number, big: number, bigName: string, small: number, smallName: string, only: number): string {
  const rest = Math.floor((s % big) / small);
  const head = `${Math.floor(s / big)}${NBSP}${bigName}`;
  return rest === 0 || s >= only ? head : `${head} ${rest}${NBSP}${smallName}`;
}

const SUFFIXES = 'KMGTP';

/** "64G", "512 MiB", "1.5T" -> bytes; undefined: no size. As the command line reads it. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?))?b?$/i.exec(text.trim());
  if (!match) return undefined;
  const power = match[2] ? SUFFIXES.indexOf(match[2].toUpperCase()) + 1 : 0;
  const value = Number(match[1]) * 1024 ** power;
  return value <= 2 ** 53 - 1 ? Math.floor(value) : undefined;
}
