/* One curve with its name and the value under the pointer. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { local } from '../lib/times.ts';
import { isEmpty, type Curve } from './figures.ts';
import type { Plot, PlotOptions } from './plot.ts';

export function Chart({ name, curve, format, top, steps }: { name: string; curve: Curve } & Omit<PlotOptions, 'onPoint'>) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot>();
  const latest = useRef(curve);
  const [point, setPoint] = useState('');
  const [problem, setProblem] = useState('');
  latest.current = curve;
  useEffect(() => {
    let isGone = false;
    const onPoint: PlotOptions['onPoint'] = (p) =>
      setPoint(!p ? '' : `${local(p.ms, Date.now())}: ${p.value === null ? 'not known' : format(p.value)}${p.max === null ? '' : `, at most ${format(p.max)}`}`);
    import('./plot.ts')
      .then(({ makePlot }) => {
        if (!isGone && place.current) plot.current = makePlot(place.current, latest.current, { format, top, steps, onPoint });
      })
      .catch(() => setProblem('The chart could not be loaded.'));
    return () => {
      isGone = true;
      plot.current?.remove();
      plot.current = undefined;
    };
  }, [top]);
  useEffect(() => plot.current?.set(curve), [curve]);
  const last = curve.values.filter((value) => value !== null).at(-1);
  const summary = isEmpty(curve) ? 'nothing is known of this time' : `last ${last === undefined || last === null ? 'not known' : format(last)}`;
  return (
    <figure class="chart" aria-label={`${name}: ${summary}`}>
      <figcaption>
        <b>{name}</b> <span>{problem || point || summary}</span>
      </figcaption>
      <div ref={place} class="plot" aria-hidden="true" />
    </figure>
  );
}
