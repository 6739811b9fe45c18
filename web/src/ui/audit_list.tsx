/* Who ordered what; of one subject, or of all. */
import { useEffect } from 'preact/hooks';
import { query } from '../api/client.ts';
import type { AuditEntry } from '../api/types.ts';
import { ordersGiven } from './orders.tsx';
import { Empty, ErrorNote, Loading, Time } from './parts.tsx';
import { useRest } from './use_rest.ts';

export function AuditList({ subject, limit, before, onMore }: { subject?: string; limit: number; before?: number | undefined; onMore?: (before: number) => void }) {
  const rest = useRest<{ entries: AuditEntry[] }>('/audit' + query({ subject, limit, before }));
  const given = ordersGiven.value;
  useEffect(() => {
    if (given > 0) rest.again();
  }, [given]);
  if (rest.error) return <ErrorNote error={rest.error} again={rest.again} />;
  if (!rest.data) return <Loading />;
  const { entries } = rest.data;
  if (entries.length === 0) return <Empty>No operator has ordered anything here.</Empty>;
  return (
    <>
      <ul class="events">
        {entries.map((entry) => (
          <li key={entry.id}>
            <Time ms={entry.at_ms} />
            <span>
              <b>{entry.who}</b> {entry.action} {!subject && <b>{entry.subject}</b>} {entry.text && <q>{entry.text}</q>}
            </span>
          </li>
        ))}
      </ul>
      {onMore && entries.length === limit && (
        <div class="pages">
          <button type="button" onClick={() => onMore(entries.at(-1)!.id)}>
            Older
          </button>
        </div>
      )}
    </>
  );
}
