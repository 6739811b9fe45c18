/* Clocks as signals: whoever reads one is drawn anew when it ticks. The quick one runs only while something counts down. */
import { effect, signal } from '@preact/signals';
import { connection, hostNow } from '../live/store.ts';

/** The host's time, every five seconds. */
export const slowNow = signal(hostNow());
/** This machine's time, every second while the stream is lost. */
export const quickNow = signal(Date.now());

export function startClocks(): void {
  setInterval(() => (slowNow.value = hostNow()), 5000);
  let timer: ReturnType<typeof setInterval> | undefined;
  effect(() => {
    clearInterval(timer);
    quickNow.value = Date.now();
    if (connection.value.phase !== 'live') timer = setInterval(() => (quickNow.value = Date.now()), 500);
  });
}
