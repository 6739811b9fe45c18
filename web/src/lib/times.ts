/* Times in the reader's own zone; the exact UTC for whoever points at one. */

const withDay = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const timeOnly = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });

/** The time of day, with the day when it is not today's. */
export function local(ms: number, nowMs: number): string {
  const sameDay = new Date(ms).toDateString() === new Date(nowMs).toDateString();
  return (sameDay ? timeOnly : withDay).format(ms);
}

/** "2026-11-26 22:30:04.123 UTC" */
export function utc(ms: number): string {
  return new Date(ms).toISOString().replace('T', ' ').replace('Z', ' UTC');
}
