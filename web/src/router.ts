/* Every view has an address of its own. Paths are matched against this table; links are ordinary links. */
import { computed, signal } from '@preact/signals';

export interface Route {
  name: 'cluster' | 'nodes' | 'node' | 'gpu' | 'tasks' | 'task' | 'submit' | 'machines' | 'machine' | 'audit' | 'missing';
  at: string[];
}

const ROUTES: [RegExp, Route['name']][] = [
  [/^\/$/, 'cluster'],
  [/^\/nodes$/, 'nodes'],
  [/^\/nodes\/([^/]+)$/, 'node'],
  [/^\/nodes\/([^/]+)\/gpus\/(\d+)$/, 'gpu'],
  [/^\/tasks$/, 'tasks'],
  [/^\/tasks\/(\d+)$/, 'task'],
  [/^\/submit$/, 'submit'],
  [/^\/vps$/, 'machines'],
  [/^\/vps\/(\d+)$/, 'machine'],
  [/^\/audit$/, 'audit'],
];

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function routeOf(path: string): Route {
  const plain = path.length > 1 ? path.replace(/\/+$/, '') : path;
  for (const [pattern, name] of ROUTES) {
    const match = pattern.exec(plain);
    if (match) return { name, at: match.slice(1).map(decode) };
  }
  return { name: 'missing', at: [] };
}

const url = signal(location.pathname + location.search);

/** Only the path; changes of the query do not touch it. */
export const pathname = computed(() => url.value.split('?', 1)[0]!);
export const route = computed(() => routeOf(pathname.value));
export const queryText = computed(() => url.value.slice(pathname.value.length));

/** Counts views that were gone to, not come back to: those begin at their top. */
export let visits = 0;

export function go(to: string, replace = false): void {
  if (to === location.pathname + location.search) return;
  if (replace) history.replaceState(null, '', to);
  else {
    history.pushState(null, '', to);
    visits++;
  }
  url.value = to;
}

/** Changes the query of the view that is shown; empty values go. */
export function setQuery(parameters: Record<string, string>): void {
  const next = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(parameters)) {
    if (value) next.set(name, value);
    else next.delete(name);
  }
  const text = next.toString();
  go(location.pathname + (text && '?' + text), true);
}

/** Links within the dashboard are followed without loading the page anew. */
function onClick(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest('a');
  if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
  if (link.pathname.startsWith('/api/') || link.pathname === '/metrics') return;
  event.preventDefault();
  if (link.hash && link.pathname === location.pathname) document.querySelector<HTMLElement>(link.hash)?.focus();
  else go(link.pathname + link.search);
}

export function startRouter(): void {
  addEventListener('popstate', () => (url.value = location.pathname + location.search));
  document.addEventListener('click', onClick);
}

export const to = {
  node: (name: string) => `/nodes/${encodeURIComponent(name)}`,
  gpu: (node: string, index: number) => `/nodes/${encodeURIComponent(node)}/gpus/${index}`,
  task: (id: number) => `/tasks/${id}`,
  machine: (id: number) => `/vps/${id}`,
};
