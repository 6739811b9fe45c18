/* What stands around every view: the menu, whether the stream lives, the list of keys. */
import { useEffect, useRef } from 'preact/hooks';
import { connection, epoch, isOutdated, retryNow, storageProblem, version } from '../live/store.ts';
import { local } from '../lib/times.ts';
import { span } from '../lib/units.ts';
import { route, type Route } from '../router.ts';
import { quickNow } from './clock.ts';
import { isHelpOpen, KEYS } from './keyboard.ts';

const MENU: [string, string, Route['name'][]][] = [
  ['/', 'Cluster', ['cluster', 'gpu']],
  ['/nodes', 'Nodes', ['nodes', 'node']],
  ['/tasks', 'Tasks', ['tasks', 'task']],
  ['/submit', 'Submit', ['submit']],
  ['/vps', 'Machines', ['machines', 'machine']],
  ['/audit', 'Audit', ['audit']],
];

export function Header() {
  const name = route.value.name;
  return (
    <header class="top">
      <a class="skip" href="#content">
        Skip to content
      </a>
      <a class="brand" href="/">
        <svg viewBox="0 0 16 16" width="18" height="18" aria-hidden="true">
          <path d="M1 5c3-3 5 3 8 0s4-1 6-2M1 9c3-3 5 3 8 0s4-1 6-2M1 13c3-3 5 3 8 0s4-1 6-2" />
        </svg>
        <span>KohakuRiver</span>
      </a>
      <nav aria-label="Main">
        {MENU.map(([href, text, names]) => (
          <a key={href} href={href} aria-current={names.includes(name) ? 'page' : undefined}>
            {text}
          </a>
        ))}
      </nav>
      <Pulse />
      <button type="button" class="key" aria-label="Keyboard shortcuts" title="Keyboard shortcuts" onClick={() => (isHelpOpen.value = true)}>
        ?
      </button>
    </header>
  );
}

function Pulse() {
  const { phase } = connection.value;
  const words = { connecting: 'connecting', live: 'live', lost: 'not connected' }[phase];
  return (
    <span class={`pulse ${phase}`} title={version.value && `host ${version.value}`}>
      <i aria-hidden="true" />
      {words}
    </span>
  );
}

/** Says that what is shown is old, how old, and when it will be tried again. */
export function Banner() {
  const { phase, heardMs, retryMs } = connection.value;
  const isStale = phase === 'lost' && epoch.value > 0;
  useEffect(() => {
    document.body.toggleAttribute('data-stale', isStale);
  }, [isStale]);
  return (
    <div class="banners">
      {phase === 'lost' && (
        <div class="banner bad">
          <span role="status">
            Host unreachable,{' '}
            {retryMs > quickNow.value ? `retrying in ${Math.ceil((retryMs - quickNow.value) / 1000)} s` : 'retrying now'}.
            {isStale && ` Shown is what was known at ${local(heardMs, Date.now())}, ${span(quickNow.value - heardMs)} ago.`}
          </span>
          <button type="button" class="small" onClick={retryNow}>
            Retry now
          </button>
        </div>
      )}
      {isOutdated.value && (
        <div class="banner">
          <span role="status">The host is now version {version.value}, and this page is older.</span>
          <button type="button" class="small" onClick={() => location.reload()}>
            Load it anew
          </button>
        </div>
      )}
      {storageProblem.value !== undefined && (
        <div class="banner bad" role="alert">
          The host cannot write to its store, so it grants nothing: {storageProblem.value}
        </div>
      )}
    </div>
  );
}

export function HelpDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const isOpen = isHelpOpen.value;
  useEffect(() => {
    if (isOpen) dialog.current?.showModal();
    else dialog.current?.close();
  }, [isOpen]);
  const close = (): void => {
    isHelpOpen.value = false;
  };
  return (
    <dialog ref={dialog} aria-labelledby="help-title" onClose={close}>
      <h2 id="help-title">Keyboard</h2>
      <dl class="keys">
        {KEYS.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              {keys.split(' ').map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <div class="buttons">
        <button type="button" onClick={close}>
          Close
        </button>
      </div>
    </dialog>
  );
}
