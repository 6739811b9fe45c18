/* Tasks of all times: filtered and paged by the host, kept up to date by the stream. */
import { useEffect, useState } from 'preact/hooks';
import { TASK_STATES } from '../lib/task_filter.ts';
import { count } from '../lib/units.ts';
import { roster } from '../live/store.ts';
import { queryText, setQuery } from '../router.ts';
import { Empty, ErrorNote, Loading, useTitle } from '../ui/parts.tsx';
import { TaskTable } from '../ui/task_table.tsx';
import { useTasks } from '../ui/use_tasks.ts';

const LIMIT = 50;

/** A text field whose word counts once one has stopped typing. */
function Typed({ label, name, value, isSearch }: { label: string; name: string; value: string; isSearch?: boolean }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    if (text === value) return;
    const timer = setTimeout(() => setQuery({ [name]: text.trim(), before: '' }), 300);
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <input type="search" {...(isSearch ? { 'data-search': true } : {})} placeholder={label} aria-label={label} value={text} onInput={(e) => setText(e.currentTarget.value)} />
  );
}

function TaskFilters({ q }: { q: URLSearchParams }) {
  const get = (name: string): string => q.get(name) ?? '';
  return (
    <div class="filters" role="search" aria-label="Tasks">
      <Typed label="Search: name, command, number" name="q" value={get('q')} isSearch />
      <select aria-label="State" value={get('status')} onChange={(e) => setQuery({ status: e.currentTarget.value, before: '' })}>
        <option value="">any state</option>
        <option value="live">live: holds its resources</option>
        {TASK_STATES.map((state) => (
          <option key={state} value={state}>
            {state}
          </option>
        ))}
      </select>
      <select aria-label="Node" value={get('node')} onChange={(e) => setQuery({ node: e.currentTarget.value, before: '' })}>
        <option value="">any node</option>
        {roster.value.map(({ node }) => (
          <option key={node} value={node}>
            {node}
          </option>
        ))}
      </select>
      <Typed label="Owner" name="owner" value={get('owner')} />
    </div>
  );
}

export function TasksView() {
  useTitle('Tasks');
  const q = new URLSearchParams(queryText.value);
  const get = (name: string): string => q.get(name) ?? '';
  const filter = { status: get('status'), node: get('node'), owner: get('owner'), q: get('q') };
  const before = Number(get('before')) || undefined;
  const page = useTasks(filter, { limit: LIMIT, before, count: true });
  const isFiltered = Object.values(filter).some(Boolean);
  return (
    <>
      <div class="view-head">
        <h1>Tasks</h1>
        {page.total !== undefined && <span class="sub">{count(page.total)} {isFiltered ? 'match' : 'in all'}</span>}
        <a class="button primary" href="/submit">
          Submit a task
        </a>
      </div>
      <TaskFilters q={q} />
      {page.error && <ErrorNote error={page.error} again={page.again} />}
      {!page.tasks && !page.error && <Loading />}
      {page.tasks?.length === 0 && <Empty>{isFiltered ? 'No task matches.' : 'Nothing has been submitted yet.'}</Empty>}
      {page.tasks && page.tasks.length > 0 && <TaskTable tasks={page.tasks} />}
      <div class="pages">
        {before !== undefined && (
          <button type="button" onClick={() => setQuery({ before: '' })}>
            Newest
          </button>
        )}
        {page.nextBefore !== undefined && (
          <button type="button" onClick={() => setQuery({ before: String(page.nextBefore) })}>
            Older
          </button>
        )}
      </div>
    </>
  );
}
