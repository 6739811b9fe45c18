/* The figures of a card that have a history, and their curves. */
import type { Gpu, GpuHistory, Values } from '../api/types.ts';
import { bytes, celsius, percent, watts } from '../lib/units.ts';

export type Figure = 'utilization_percent' | 'memory_used_bytes' | 'temperature_celsius' | 'power_mw';
export const SPANS = ['10m', '24h', '30d'] as const;
export type SpanName = (typeof SPANS)[number];
export const SPAN_WORDS: Record<SpanName, string> = { '10m': '10 min', '24h': '24 h', '30d': '30 d' };

export interface Curve {
  seconds: number[];
  values: Values;
  /** The highest sample of each step, where a value is a mean. */
  max?: Values;
}

/** Bytes are counted in powers of two: 64 KiB, 128 KiB … */
const BINARY = Array.from({ length: 32 }, (_, i) => 2 ** (16 + i));

export const FIGURES: Record<Figure, { name: string; format: (n: number) => string; top: (gpu: Gpu) => number | undefined; steps?: number[] }> = {
  utilization_percent: { name: 'Utilisation', format: percent, top: () => 100 },
  memory_used_bytes: { name: 'Memory', format: bytes, top: (gpu) => gpu.memory_total_bytes, steps: BINARY },
  temperature_celsius: { name: 'Temperature', format: celsius, top: () => 100 },
  power_mw: { name: 'Power', format: watts, top: (gpu) => gpu.power_limit_mw },
};

export function curveOf(history: GpuHistory, figure: Figure): Curve {
  const values = history[figure];
  const max = history[`${figure}_max`];
  const seconds = values.map((_, i) => (history.from_ms + i * history.step_ms) / 1000);
  return max ? { seconds, values, max } : { seconds, values };
}

/** The same with one more value at its end; what is older than the span goes. */
export function extend(curve: Curve, atMs: number, value: number | undefined, spanMs: number): Curve {
  const from = atMs / 1000 - spanMs / 1000;
  let first = curve.seconds.findIndex((s) => s >= from);
  if (first < 0) first = curve.seconds.length;
  return { seconds: [...curve.seconds.slice(first), atMs / 1000], values: [...curve.values.slice(first), value ?? null] };
}

export function isEmpty(curve: Curve): boolean {
  return curve.values.every((value) => value === null);
}
