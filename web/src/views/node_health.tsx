/* What speaks against the cards of a node. */
import type { Signal } from '@preact/signals';
import type { Gpu } from '../api/types.ts';
import { to } from '../router.ts';
import { Ago, Empty, Section } from '../ui/parts.tsx';

export function healthText(gpu: Gpu): string {
  return gpu.health === 'ok' ? 'in order' : `${gpu.health}${gpu.health_reason ? `: ${gpu.health_reason}` : ''}`;
}

/** The card's XIDs, newest first. */
export function Xids({ gpu }: { gpu: Gpu }) {
  const xids = [...(gpu.xids ?? [])].sort((a, b) => b.last_ms - a.last_ms);
  if (xids.length === 0) return <Empty>No XID has been seen.</Empty>;
  return (
    <ul class="events">
      {xids.map((xid) => (
        <li key={xid.code}>
          <Ago ms={xid.last_ms} />
          <span>
            XID {xid.code}, {xid.count === 1 ? 'once' : `${xid.count} times`}
          </span>
        </li>
      ))}
    </ul>
  );
}

function Line({ card }: { card: Signal<Gpu> }) {
  const gpu = card.value;
  const isFine = gpu.health === 'ok' && !gpu.xids?.length;
  if (isFine) return null;
  const reasons = [healthText(gpu), gpu.xids?.length && `XIDs: ${gpu.xids.map((x) => x.code).join(', ')}`];
  return (
    <li>
      <a href={to.gpu(gpu.node, gpu.index)}>GPU {gpu.index}</a>
      <span>{reasons.filter(Boolean).join(' · ')}</span>
    </li>
  );
}

export function Health({ cards }: { cards: Signal<Gpu>[] }) {
  const wrong = cards.filter(({ value: gpu }) => gpu.health !== 'ok' || gpu.xids?.length);
  return (
    <Section title="Health">
      {cards.length === 0 && <Empty>No cards to judge.</Empty>}
      {cards.length > 0 && wrong.length === 0 && <Empty>Nothing speaks against any card.</Empty>}
      <ul class="events">
        {cards.map((card) => (
          <Line key={card.peek().index} card={card} />
        ))}
      </ul>
    </Section>
  );
}
