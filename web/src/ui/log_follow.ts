/* A task's output as it is written. A broken connection is taken up again where it was; the end is told by the host. A tab that is
 * not in sight lets go of its connection: a browser has six for each host, and all its tabs share them. */
import { API, ApiError, path, query, request } from '../api/client.ts';
import { LogBuffer } from '../lib/log_buffer.ts';

export type StreamName = 'stdout' | 'stderr';

export interface LogState {
  /** none: there is no log yet; following: more may come; ended: that was all; broken: tried again in three seconds;
   * hidden: goes on when the tab is in sight. */
  phase: 'opening' | 'none' | 'following' | 'ended' | 'broken' | 'hidden';
  problem?: string;
}

export function logPath(id: number, stream: StreamName, follow: boolean, offset = 0): string {
  return path('tasks', id, 'logs') + query({ stream, follow: follow ? 1 : 0, offset: offset || undefined });
}

export function downloadUrl(id: number, stream: StreamName): string {
  return API + logPath(id, stream, false);
}

/** Reads until it is told to stop. `onChange` is called at most once per frame. */
export class LogFollower {
  readonly buffer = new LogBuffer();
  state: LogState = { phase: 'opening' };
  private offset = 0;
  private abort = new AbortController();
  private frame = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly id: number,
    private readonly stream: StreamName,
    private readonly onChange: () => void,
  ) {
    document.addEventListener('visibilitychange', this.onSight);
    void this.run();
  }

  private readonly onSight = (): void => {
    const isHidden = document.visibilityState === 'hidden';
    if (isHidden && (this.state.phase === 'following' || this.state.phase === 'broken')) {
      this.abort.abort();
      clearTimeout(this.timer);
      this.changed({ phase: 'hidden' });
    } else if (!isHidden && this.state.phase === 'hidden') {
      void this.run();
    }
  };

  stop(): void {
    document.removeEventListener('visibilitychange', this.onSight);
    this.abort.abort();
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
  }

  /** The task has changed: what was not there may be there now. */
  look(): void {
    if (this.state.phase === 'none') void this.run();
  }

  private changed(state?: LogState): void {
    if (state) this.state = state;
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.onChange();
    });
  }

  private async run(): Promise<void> {
    const { signal } = (this.abort = new AbortController());
    try {
      const response = await request(logPath(this.id, this.stream, true, this.offset), { signal });
      this.changed({ phase: 'following' });
      const reader = response.body!.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || signal.aborted) break;
        this.offset += value.length;
        this.buffer.push(value);
        this.changed();
      }
      if (!signal.aborted) this.changed({ phase: 'ended' });
    } catch (why) {
      if (signal.aborted) return;
      if (why instanceof ApiError && why.status === 404) return this.changed({ phase: 'none' });
      this.changed({ phase: 'broken', problem: why instanceof Error ? why.message : String(why) });
      this.timer = setTimeout(() => void this.run(), 3000);
    }
  }
}
