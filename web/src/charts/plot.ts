/* uPlot, loaded only when a chart is shown. Colours are the style sheet's. */
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { Curve } from './figures.ts';

export interface Plot {
  set(curve: Curve): void;
  remove(): void;
}

export interface PlotOptions {
  /** As the axis and the pointer show a value. */
  format: (value: number) => string;
  /** Steps that the axis may have; left out: decimal ones. */
  steps?: readonly number[] | undefined;
  /** Fixed top of the axis; left out: as high as the values. */
  top?: number | undefined;
  /** The value under the pointer, or null when it is not over the chart. */
  onPoint: (point: { ms: number; value: number | null; max: number | null } | null) => void;
}

const HEIGHT = 120;
const DAY = 86400;
const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

function colour(element: Element, name: string): string {
  return getComputedStyle(element).getPropertyValue(name).trim();
}

function dataOf(curve: Curve): uPlot.AlignedData {
  return curve.max ? [curve.seconds, curve.values, curve.max] : [curve.seconds, curve.values];
}

function build(element: HTMLElement, curve: Curve, options: PlotOptions): uPlot {
  const line = colour(element, '--chart');
  const axis = { stroke: colour(element, '--muted'), grid: { stroke: colour(element, '--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui' };
  const series: uPlot.Series[] = [{}, { stroke: line, width: 1.5, fill: colour(element, '--chart-fill'), spanGaps: false, points: { show: false } }];
  if (curve.max) series.push({ stroke: colour(element, '--chart-max'), width: 1, spanGaps: false, points: { show: false } });
  return new uPlot(
    {
      width: element.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { y: { range: (_u, _min, max) => [0, options.top ?? Math.max(max ?? 0, 1) * 1.05] } },
      axes: [
        { ...axis, space: 70, size: 24, values: (_u, ticks, _axis, _space, step) => ticks.map((tick) => (step >= DAY ? day : clock).format(tick * 1000)) },
        { ...axis, size: 62, space: 26, ...(options.steps ? { incrs: [...options.steps] } : {}), values: (_u, ticks) => ticks.map((tick) => options.format(tick)) },
      ],
      series,
      hooks: {
        setCursor: [
          (u) => {
            const i = u.cursor.idx;
            if (i === null || i === undefined) return options.onPoint(null);
            options.onPoint({ ms: u.data[0][i]! * 1000, value: u.data[1]![i] ?? null, max: u.data[2]?.[i] ?? null });
          },
        ],
      },
    },
    dataOf(curve),
    element,
  );
}

export function makePlot(element: HTMLElement, first: Curve, options: PlotOptions): Plot {
  let curve = first;
  let plot = build(element, curve, options);
  const rebuild = (): void => {
    plot.destroy();
    plot = build(element, curve, options);
  };
  const size = new ResizeObserver(() => {
    if (element.clientWidth && element.clientWidth !== plot.width) plot.setSize({ width: element.clientWidth, height: HEIGHT });
  });
  size.observe(element);
  const dark = matchMedia('(prefers-color-scheme: dark)');
  dark.addEventListener('change', rebuild);
  return {
    set(next) {
      const sameShape = (curve.max === undefined) === (next.max === undefined);
      curve = next;
      if (sameShape) plot.setData(dataOf(curve));
      else rebuild();
    },
    remove() {
      size.disconnect();
      dark.removeEventListener('change', rebuild);
      plot.destroy();
    },
  };
}
