/* Keys for whoever does not reach for the mouse. `?` lists them. */
import { signal } from '@preact/signals';
import { go } from '../router.ts';

export const isHelpOpen = signal(false);

export const KEYS: [string, string][] = [
  ['/', 'search in this view'],
  ['g c', 'the cluster'],
  ['g n', 'nodes'],
  ['g t', 'tasks'],
  ['g s', 'submit a task'],
  ['g v', 'virtual machines'],
  ['g a', 'audit log'],
  ['arrows', 'from card to card in the grid; Enter opens one'],
  ['Esc', 'leave a field, close a dialog'],
  ['?', 'this list'],
];

const PLACES: Record<string, string> = { c: '/', n: '/nodes', t: '/tasks', s: '/submit', v: '/vps', a: '/audit' };

let afterG = 0;

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

function focusSearch(): boolean {
  const field = document.querySelector<HTMLInputElement>('[data-search]');
  field?.focus();
  field?.select();
  return field !== null;
}

function onKey(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Escape' && isTyping(event.target)) (event.target as HTMLElement).blur();
  if (isTyping(event.target) || document.querySelector('dialog[open]')) return;
  const follows = Date.now() - afterG < 1500;
  afterG = event.key === 'g' ? Date.now() : 0;
  const place = follows ? PLACES[event.key] : undefined;
  if (place) go(place);
  else if (event.key === '/') focusSearch();
  else if (event.key === '?') isHelpOpen.value = true;
  else return;
  event.preventDefault();
}

export function startKeyboard(): void {
  document.addEventListener('keydown', onKey);
}
