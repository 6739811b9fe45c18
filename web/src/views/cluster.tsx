/* The room at a glance: a row for each node, a cell for each card. */
import { computed, useComputed, useSignal, type ReadonlySignal, type Signal } from '@preact/signals';
import { memo } from '../ui/memo.ts';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { Gpu, NodeSummary } from '../api/types.ts';
import { filterFromQuery, isFiltering, matches } from '../lib/grid_filter.ts';
import { bytesOf } from '../lib/units.ts';
import { epoch, nodes, roster, shape } from '../live/store.ts';
import { queryText, to } from '../router.ts';
import { GpuCell } from '../ui/gpu_cell.tsx';
import { watchSight } from '../ui/in_sight.ts';
import { LiveText } from '../ui/live_text.tsx';
import { onGridFocus, onGridKey } from '../ui/grid_keys.ts';
import { Ago, Empty, Loading, useTitle } from '../ui/parts.tsx';
import { Filters, Legend } from './cluster_filters.tsx';
import { Totals } from './cluster_totals.tsx';

interface Row {
  node: string;
  cards: Signal<Gpu>[];
  total: number;
}

/** The rows that the filter leaves; a node without cards is shown while nothing is filtered. */
export const rows = computed<Row[]>(() => {
  shape.value;
  const filter = filterFromQuery(new URLSearchParams(queryText.value));
  const filtering = isFiltering(filter);
  return roster.value
    .map(({ node, cards }) => ({
      node,
      cards: filtering ? cards.filter((card) => matches(card.peek(), filter)) : cards,
      total: cards.length,
    }))
    .filter((row) => !filtering || row.cards.length > 0);
});

/** What the head of a row shows, but for figures. */
function headOf(node: NodeSummary): string {
  const { online, cordon, engine_ok, engine_text, disk_ok, disk_text, gpus_known, gpu_text, cores, cores_reserved, last_seen_ms } = node;
  return JSON.stringify([online, cordon?.kind, engine_ok, engine_text, disk_ok, disk_text, gpus_known, gpu_text, cores, cores_reserved, online || last_seen_ms]);
}

function NodeHead({ card, isInSight }: { card: Signal<NodeSummary>; isInSight: ReadonlySignal<boolean> }) {
  useComputed(() => headOf(card.value)).value;
  const node = card.peek();
  return (
    <>
      <a href={to.node(node.name)} class={node.online ? 'name' : 'name off'}>
        {node.name}
      </a>
      {!node.online && (
        <span class="tag bad">
          silent{node.last_seen_ms ? <>, seen <Ago ms={node.last_seen_ms} /></> : ' since the host started'}
        </span>
      )}
      {node.cordon && <span class="tag warn">{node.cordon.kind === 'drain' ? 'draining' : 'cordoned'}</span>}
      {!node.engine_ok && <span class="tag bad" title={node.engine_text}>no containers</span>}
      {!node.disk_ok && <span class="tag bad" title={node.disk_text}>disk full</span>}
      {!node.gpus_known && <span class="tag bad" title={node.gpu_text}>GPUs not known</span>}
      <span class="sub">
        {node.cores_reserved} of {node.cores} cores · <LiveText text={() => bytesOf(card.value.online ? card.value.memory_used_bytes : undefined, card.value.memory_total_bytes)} isInSight={isInSight} />
      </span>
    </>
  );
}

function sameRow(a: Row, b: Row): boolean {
  return a.node === b.node && a.total === b.total && a.cards.length === b.cards.length && a.cards.every((c, i) => c === b.cards[i]);
}

const NodeRow = memo(function NodeRow({ node, cards, total }: Row) {
  const row = useRef<HTMLElement>(null);
  const isInSight = useSignal(false);
  const known = nodes.get(node);
  useLayoutEffect(() => watchSight(row.current!, isInSight), []);
  return (
    <section class="node-row" aria-label={`Node ${node}`} ref={row}>
      <div class="node-head">
        {known ? <NodeHead card={known} isInSight={isInSight} /> : <a href={to.node(node)}>{node}</a>}
        {cards.length < total && <span class="sub">{cards.length} of {total} cards shown</span>}
      </div>
      <div class="cells">
        {cards.length === 0 && <span class="sub">no GPUs</span>}
        {cards.map((card) => (
          <GpuCell key={card.peek().index} card={card} isInSight={isInSight} />
        ))}
      </div>
    </section>
  );
}, sameRow);

/** Nodes with so few cards stand side by side. */
const FEW_CARDS = 4;

/** So many rows are drawn at once, the others after them: a page of 200 nodes answers from the first moment. */
const AT_ONCE = 24;

function useFew(total: number): number {
  const [n, setN] = useState(AT_ONCE);
  useEffect(() => {
    if (n >= total) return;
    const timer = setTimeout(() => setN(3 * n));
    return () => clearTimeout(timer);
  }, [n, total]);
  return n;
}

function Grid() {
  const list = rows.value;
  const few = useFew(list.length);
  const grid = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => makeReachable(grid.current), [list]);
  const isDense = new URLSearchParams(queryText.value).get('view') === 'dense';
  if (epoch.value === 0) return <Loading />;
  if (roster.value.length === 0) {
    return (
      <Empty>
        No node has joined yet. On a machine with GPUs: <code>kohakuriver runner --help</code>
      </Empty>
    );
  }
  if (list.length === 0) {
    return (
      <Empty>
        No card matches. <a href="/">Show all cards</a>
      </Empty>
    );
  }
  return (
    <div class={isDense ? 'grid dense' : list.every((row) => row.cards.length <= FEW_CARDS) ? 'grid pairs' : 'grid'} onKeyDown={onGridKey} onFocusCapture={onGridFocus} ref={grid}>
      {list.slice(0, few).map((row) => (
        <NodeRow key={row.node} {...row} />
      ))}
    </div>
  );
}

/** One cell is in the order of Tab; arrows go on from there. */
function makeReachable(grid: HTMLElement | null): void {
  if (grid && !grid.querySelector('.cell[tabindex="0"]')) grid.querySelector('.cell')?.setAttribute('tabindex', '0');
}

export function ClusterView() {
  useTitle('Cluster');
  return (
    <>
      <div class="view-head">
        <h1>Cluster</h1>
        <Totals />
      </div>
      <Filters />
      <Legend />
      <Grid />
    </>
  );
}
