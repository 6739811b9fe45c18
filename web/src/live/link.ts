/* The page's end of the stream: to the shared worker, or to a keeper of its own where there are no shared workers. */
import { API } from '../api/client.ts';
import { Keeper, type Listener } from './keeper.ts';
import type { FromPage } from './protocol.ts';

export interface Link {
  retry(): void;
}

export function openLink(listener: Listener): Link {
  if (typeof SharedWorker === 'undefined') return openOwn(listener);
  let port: MessagePort | undefined;
  const connect = (): void => {
    const worker = new SharedWorker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'kohakuriver' });
    worker.onerror = () => {
      // A browser that has no module workers says so only here.
      worker.onerror = null;
      port = undefined;
      own = openOwn(listener);
    };
    port = worker.port;
    port.onmessage = (event) => listener(event.data);
  };
  let own: Link | undefined;
  const send = (message: FromPage): void => port?.postMessage(message);
  connect();
  addEventListener('pagehide', () => send({ type: 'bye' }));
  addEventListener('pageshow', (event) => event.persisted && port && connect());
  return { retry: () => (own ? own.retry() : send({ type: 'retry' })) };
}

function openOwn(listener: Listener): Link {
  const keeper = new Keeper(API + '/events');
  keeper.add(listener);
  return { retry: () => keeper.retry() };
}
