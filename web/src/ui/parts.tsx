/* The small parts that every view is made of. */
import type { ComponentChildren } from 'preact';
import { useEffect } from 'preact/hooks';
import type { GpuState, Mark } from '../api/types.ts';
import { local, utc } from '../lib/times.ts';
import { span, UNKNOWN } from '../lib/units.ts';
import { slowNow } from './clock.ts';

/** A share from 0 to 1 as a bar; undefined: an empty, hatched one. */
export function Bar({ value, kind }: { value: number | undefined; kind: string }) {
  if (value === undefined) return <span class="bar unknown" aria-hidden="true" />;
  return (
    <span class={`bar ${kind}`} aria-hidden="true">
      <i style={{ transform: `scaleX(${value.toFixed(3)})` }} />
    </span>
  );
}

/** A point in time in the reader's zone; the title has the exact UTC. */
export function Time({ ms }: { ms: number | undefined }) {
  if (!ms) return <>{UNKNOWN}</>;
  return (
    <time dateTime={new Date(ms).toISOString()} title={utc(ms)}>
      {local(ms, Date.now())}
    </time>
  );
}

/** How long ago, with the exact UTC in the title. */
export function Ago({ ms }: { ms: number | undefined }) {
  if (!ms) return <>{UNKNOWN}</>;
  const age = slowNow.value - ms;
  return (
    <time dateTime={new Date(ms).toISOString()} title={`${local(ms, Date.now())} · ${utc(ms)}`}>
      {age < 10000 ? 'just now' : `${span(age)} ago`}
    </time>
  );
}

/** From one time to another, or until now. */
export function Span({ from, until }: { from: number | undefined; until?: number | undefined }) {
  if (!from) return <>{UNKNOWN}</>;
  return <span title={`${utc(from)} to ${until ? utc(until) : 'now'}`}>{span((until ?? slowNow.value) - from)}</span>;
}

const GPU_WORDS: Record<GpuState, string> = {
  free: 'free',
  leased: 'leased',
  starting: 'starting',
  in_use: 'in use',
  draining: 'draining',
  foreign: 'foreign process',
  orphaned: 'orphaned',
  switching: 'switching driver',
  vfio: 'on vfio-pci',
  quarantined: 'quarantined',
  unknown: 'unknown',
  bare: 'bare: for machines',
  removed: 'removed',
};

export function gpuWord(state: GpuState): string {
  return GPU_WORDS[state] ?? state;
}

export function GpuBadge({ state }: { state: GpuState }) {
  return (
    <span class={`badge s-${state}`}>
      <span class="swatch" aria-hidden="true" />
      {gpuWord(state)}
    </span>
  );
}

/** Of a task or a machine. */
export function StateBadge({ state }: { state: string }) {
  return <span class={`badge t-${state}`}>{state}</span>;
}

export function MarkNote({ mark, what }: { mark: Mark; what: string }) {
  return (
    <p class="note warn">
      {what} is {mark.kind === 'drain' ? 'being drained' : 'cordoned'} by {mark.who} since <Time ms={mark.since_ms} />
      {mark.reason && `: ${mark.reason}`}. It gets no new tasks.
    </p>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

export function ErrorNote({ error, again }: { error: Error; again?: () => void }) {
  return (
    <div class="note bad" role="alert">
      <span>{error.message}</span>
      {again && (
        <button type="button" class="small" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Loading() {
  return <p class="empty">Loading …</p>;
}

/** Facts as a list of names and values; undefined ones are left out. */
export function Facts({ rows }: { rows: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {rows.map(
        ([name, value], i) =>
          value !== undefined && (
            <div key={i}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

export function Section({ title, children, tools }: { title: string; children: ComponentChildren; tools?: ComponentChildren }) {
  return (
    <section class="card" aria-label={title}>
      <header>
        <h2>{title}</h2>
        {tools}
      </header>
      {children}
    </section>
  );
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · KohakuRiver`;
  }, [title]);
}
