/* Every order of an operator, newest first. */
import { queryText, setQuery } from '../router.ts';
import { AuditList } from '../ui/audit_list.tsx';
import { useTitle } from '../ui/parts.tsx';

export function AuditView() {
  useTitle('Audit');
  const before = Number(new URLSearchParams(queryText.value).get('before')) || undefined;
  return (
    <>
      <div class="view-head">
        <h1>Audit log</h1>
        {before !== undefined && (
          <button type="button" onClick={() => setQuery({ before: '' })}>
            Newest
          </button>
        )}
      </div>
      <section class="card" aria-label="Orders">
        <AuditList limit={100} before={before} onMore={(id) => setQuery({ before: String(id) })} />
      </section>
    </>
  );
}
