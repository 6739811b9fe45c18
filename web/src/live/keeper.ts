/* Keeps one stream open for all pages that ask: connects again three seconds after it broke or fell silent, goes on where it
 * was, and tells every page what came. Lives in a shared worker, or in the page where a browser has none. */
import { ClusterState } from './cluster_state.ts';
import type { Changes, Connection, Snapshot, ToPage } from './protocol.ts';

export const RETRY_MS = 3000;
/** The host says something at least every ten seconds. */
export const SILENCE_MS = 25000;

export type Listener = (message: ToPage) => void;

export class Keeper {
  private readonly listeners = new Set<Listener>();
  private readonly state = new ClusterState();
  private readonly connection: Connection = { phase: 'connecting', heardMs: 0, retryMs: 0 };
  private source: EventSource | undefined;
  private lastId = '';
  private retryTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly url: string) {
    setInterval(() => this.watch(), 1000);
    this.open();
  }

  add(listener: Listener): void {
    this.listeners.add(listener);
    listener({ type: 'connection', connection: { ...this.connection } });
    const snapshot = this.state.get();
    if (snapshot) listener({ type: 'snapshot', snapshot });
  }

  remove(listener: Listener): void {
    this.listeners.delete(listener);
  }

  /** Somebody does not want to wait. */
  retry(): void {
    if (this.connection.phase === 'lost') this.open();
  }

  private tell(message: ToPage): void {
    this.listeners.forEach((listener) => listener(message));
  }

  private tellConnection(change: Partial<Connection>): void {
    Object.assign(this.connection, change);
    this.tell({ type: 'connection', connection: { ...this.connection } });
  }

  private open(): void {
    clearTimeout(this.retryTimer);
    this.source?.close();
    const resume = this.lastId && '?last_event_id=' + encodeURIComponent(this.lastId);
    const source = new EventSource(this.url + resume);
    this.source = source;
    if (this.connection.phase === 'lost') this.tellConnection({ retryMs: 0 });
    const on = <T>(name: string, take: (data: T) => void): void =>
      source.addEventListener(name, (event) => {
        if (this.source !== source) return;
        if (event.lastEventId) this.lastId = event.lastEventId;
        this.heard();
        take(JSON.parse(event.data) as T);
      });
    on<Snapshot>('snapshot', (snapshot) => {
      this.state.set(snapshot);
      this.tell({ type: 'snapshot', snapshot });
    });
    on<Changes>('changes', (changes) => {
      this.state.apply(changes);
      this.tell({ type: 'changes', changes });
    });
    on<{ now_ms: number }>('beat', (beat) => this.tell({ type: 'beat', nowMs: beat.now_ms }));
    source.addEventListener('open', () => this.source === source && this.heard());
    source.addEventListener('error', () => this.source === source && this.lose());
    this.openedMs = Date.now();
  }

  private openedMs = 0;

  private heard(): void {
    this.connection.heardMs = Date.now();
    if (this.connection.phase !== 'live') this.tellConnection({ phase: 'live', retryMs: 0 });
  }

  private lose(): void {
    this.source?.close();
    this.source = undefined;
    this.retryTimer = setTimeout(() => this.open(), RETRY_MS);
    this.tellConnection({ phase: 'lost', retryMs: Date.now() + RETRY_MS });
  }

  private watch(): void {
    const silent = Date.now() - Math.max(this.connection.heardMs, this.openedMs);
    if (this.source && silent > SILENCE_MS) this.lose();
  }
}
