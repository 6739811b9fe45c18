/* What a view asks for beside the stream: asked when the view opens, when its path changes, and once more after the stream had to
 * begin anew. Never by a timer. */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { get } from '../api/client.ts';
import { epoch } from '../live/store.ts';

export interface Rest<T> {
  data: T | undefined;
  error: Error | undefined;
  isLoading: boolean;
  /** Asks again; what is shown stays until the answer is there. */
  again: () => void;
}

/** path undefined: nothing is asked. onAsk is called right before each request. */
export function useRest<T>(path: string | undefined, onAsk?: () => void): Rest<T> {
  const [state, setState] = useState<{ path: string | undefined; data?: T; error?: Error }>({ path: undefined });
  const [isLoading, setLoading] = useState(false);
  const [turn, setTurn] = useState(0);
  const seen = useRef(0);
  // The first snapshot is no news for what was asked beside it; unless nobody answered then.
  const since = Math.max(1, epoch.value);
  useEffect(() => {
    if (path === undefined) return;
    const abort = new AbortController();
    const number = ++seen.current;
    setLoading(true);
    onAsk?.();
    get<T>(path, abort.signal)
      .then((data) => setState({ path, data }))
      .catch((error: Error) => {
        if (!abort.signal.aborted) setState((old) => ({ path, error, ...(old.path === path && old.data ? { data: old.data } : {}) }));
      })
      .finally(() => number === seen.current && setLoading(false));
    return () => abort.abort();
  }, [path, turn, since]);
  const again = useCallback(() => setTurn((n) => n + 1), []);
  useEffect(() => {
    if (epoch.value === 1 && state.error) again();
  }, [epoch.value]);
  const isOurs = state.path === path;
  return { data: isOurs ? state.data : undefined, error: isOurs ? state.error : undefined, isLoading, again };
}
