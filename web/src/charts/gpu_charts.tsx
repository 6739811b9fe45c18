/* The history of one card: kept by its node, asked for once, and for the last ten minutes carried on by the stream. */
import { useSignalEffect, type Signal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { path, query } from '../api/client.ts';
import type { Gpu, GpuHistory } from '../api/types.ts';
import { connection, hostNow } from '../live/store.ts';
import { queryText, setQuery } from '../router.ts';
import { slowNow } from '../ui/clock.ts';
import { ErrorNote, Loading } from '../ui/parts.tsx';
import { useRest } from '../ui/use_rest.ts';
import { Chart } from './chart.tsx';
import { curveOf, extend, FIGURES, SPAN_WORDS, SPANS, type Curve, type Figure, type SpanName } from './figures.ts';

const TEN_MINUTES = 600000;

export function spanOfQuery(): SpanName {
  const asked = new URLSearchParams(queryText.value).get('span');
  return SPANS.find((span) => span === asked) ?? '10m';
}

export function SpanChoice() {
  const chosen = spanOfQuery();
  return (
    <div class="switch" role="group" aria-label="Time span">
      {SPANS.map((span) => (
        <button key={span} type="button" aria-pressed={span === chosen} onClick={() => setQuery({ span: span === '10m' ? '' : span })}>
          {SPAN_WORDS[span]}
        </button>
      ))}
    </div>
  );
}

type Curves = Partial<Record<Figure, Curve>>;

export function GpuCharts({ card, only, label }: { card: Signal<Gpu>; only?: Figure; label?: string }) {
  const { node, index } = card.peek();
  const span = spanOfQuery();
  const figures = only ? [only] : (Object.keys(FIGURES) as Figure[]);
  const rest = useRest<GpuHistory>(path('nodes', node, 'gpus', index, 'history') + query({ span }));
  const [curves, setCurves] = useState<Curves>({});
  const { data } = rest;
  useEffect(() => {
    if (data) setCurves(Object.fromEntries(Object.keys(FIGURES).map((figure) => [figure, curveOf(data, figure as Figure)])));
  }, [data]);
  useSignalEffect(() => {
    const gpu = card.value;
    slowNow.value;
    if (spanOfQuery() !== '10m' || connection.peek().phase !== 'live' || !gpu.online) return;
    setCurves((old) => {
      const next: Curves = {};
      for (const [figure, curve] of Object.entries(old)) next[figure as Figure] = extend(curve, hostNow(), gpu[figure as Figure], TEN_MINUTES);
      return next;
    });
  });
  if (rest.error && !data) return <ErrorNote error={rest.error} again={rest.again} />;
  if (!data) return <Loading />;
  const gpu = card.peek();
  return (
    <div class="charts">
      {figures.map((figure) => {
        const { name, format, top, steps } = FIGURES[figure];
        const curve = curves[figure] ?? curveOf(data, figure);
        return <Chart key={`${figure} ${span}`} name={label ?? name} curve={curve} format={format} top={top(gpu)} steps={steps} />;
      })}
    </div>
  );
}
