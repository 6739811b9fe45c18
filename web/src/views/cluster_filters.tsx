/* What narrows the grid down. It stands in the address, so a filtered grid can be sent to somebody. */
import { computed } from '@preact/signals';
import { filterFromQuery, filterToQuery, GPU_STATES, isFiltering, type GridFilter } from '../lib/grid_filter.ts';
import { count } from '../lib/units.ts';
import { gpus, roster, shape } from '../live/store.ts';
import { queryText, setQuery } from '../router.ts';
import { gpuWord } from '../ui/parts.tsx';

const filter = computed(() => filterFromQuery(new URLSearchParams(queryText.value)));

const choices = computed(() => {
  shape.value;
  const models = new Set<string>();
  const users = new Set<string>();
  const memory = new Set<number>();
  for (const card of gpus.values()) {
    const gpu = card.peek();
    models.add(gpu.name);
    if (gpu.holder?.owner) users.add(gpu.holder.owner);
    if (gpu.memory_total_bytes) memory.add(Math.round(gpu.memory_total_bytes / 2 ** 30));
  }
  const state = filter.value;
  if (state.model) models.add(state.model);
  if (state.user) users.add(state.user);
  if (state.memoryGib) memory.add(state.memoryGib);
  return {
    models: [...models].sort(),
    users: [...users].sort(),
    memory: [...memory].sort((a, b) => a - b),
    nodes: roster.value.map((row) => row.node),
  };
});

function change(part: Partial<GridFilter>): void {
  setQuery(filterToQuery({ ...filter.value, ...part }));
}

function Choice({ label, all, value, options, onPick }: { label: string; all: string; value: string; options: [string, string][]; onPick: (value: string) => void }) {
  return (
    <select aria-label={label} value={value} onChange={(e) => onPick(e.currentTarget.value)}>
      <option value="">{all}</option>
      {options.map(([v, text]) => (
        <option key={v} value={v}>
          {text}
        </option>
      ))}
    </select>
  );
}

const same = (list: string[]): [string, string][] => list.map((text) => [text, text]);

export function Filters() {
  const f = filter.value;
  const c = choices.value;
  const isDense = new URLSearchParams(queryText.value).get('view') === 'dense';
  return (
    <div class="filters" role="search" aria-label="Cards">
      <input
        type="search"
        data-search
        placeholder="Search: node, holder, model, mynode::3"
        aria-label="Search for a card"
        value={f.q}
        onInput={(e) => change({ q: e.currentTarget.value })}
      />
      <label class="check">
        <input type="checkbox" checked={f.free} onChange={(e) => change({ free: e.currentTarget.checked })} />
        free only
      </label>
      <Choice label="Model" all="any model" value={f.model} options={same(c.models)} onPick={(model) => change({ model })} />
      <Choice
        label="Memory"
        all="any memory"
        value={f.memoryGib ? String(f.memoryGib) : ''}
        options={c.memory.map((n) => [String(n), `${n} GiB or more`])}
        onPick={(n) => change({ memoryGib: Number(n) })}
      />
      <Choice label="User" all="any user" value={f.user} options={same(c.users)} onPick={(user) => change({ user })} />
      <Choice label="Node" all="any node" value={f.node} options={same(c.nodes)} onPick={(node) => change({ node })} />
      <label class="check">
        <input type="checkbox" checked={isDense} onChange={(e) => setQuery({ view: e.currentTarget.checked ? 'dense' : '' })} />
        compact
      </label>
      {isFiltering(f) && (
        <button type="button" class="small" onClick={() => setQuery(filterToQuery({ q: '', free: false, model: '', memoryGib: 0, user: '', node: '', states: [] }))}>
          Clear
        </button>
      )}
    </div>
  );
}

const counts = computed(() => {
  shape.value;
  const found = new Map<string, number>();
  for (const card of gpus.values()) found.set(card.peek().state, (found.get(card.peek().state) ?? 0) + 1);
  return found;
});

/** What the colours and patterns mean, how many there are, and a switch for each. */
export function Legend() {
  const f = filter.value;
  return (
    <div class="legend" role="group" aria-label="States of cards">
      {GPU_STATES.filter((state) => counts.value.has(state) || f.states.includes(state)).map((state) => {
        const isOn = f.states.includes(state);
        return (
          <button
            key={state}
            type="button"
            class={`chip s-${state}`}
            aria-pressed={isOn}
            onClick={() => change({ states: isOn ? f.states.filter((s) => s !== state) : [...f.states, state] })}
          >
            <span class="swatch" aria-hidden="true" />
            {gpuWord(state)} <b>{count(counts.value.get(state) ?? 0)}</b>
          </button>
        );
      })}
    </div>
  );
}
