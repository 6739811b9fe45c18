/* The shared worker: one stream for all tabs of a browser. */
import { API } from '../api/client.ts';
import { Keeper, type Listener } from './keeper.ts';
import type { FromPage } from './protocol.ts';

interface SharedWorkerScope {
  onconnect: ((event: MessageEvent) => void) | null;
}

const keeper = new Keeper(API + '/events');

(globalThis as unknown as SharedWorkerScope).onconnect = (event) => {
  const port = event.ports[0]!;
  const listener: Listener = (message) => port.postMessage(message);
  port.onmessage = ({ data }: MessageEvent<FromPage>) => {
    if (data.type === 'retry') keeper.retry();
    else keeper.remove(listener);
  };
  keeper.add(listener);
};
