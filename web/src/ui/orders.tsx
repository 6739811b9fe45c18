/* Orders are confirmed before they are given: what will happen, and for operators who gives the order and why. */
import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ErrorNote } from './parts.tsx';
import { OPERATOR, remember, remembered } from './memory.ts';

export interface Order {
  title: string;
  text: string;
  verb: string;
  isDangerous?: boolean;
  /** Asks who gives the order and why. */
  isOperators?: boolean;
  run: (body: { who: string; reason: string }) => Promise<unknown>;
  /** Said when it has been taken. */
  done: string;
}

/** Counts orders that were taken: lists of orders are asked for anew. */
export const ordersGiven = signal(0);
const asked = signal<Order | undefined>(undefined);
export const notice = signal('');

export function ask(order: Order): void {
  asked.value = order;
}

export function say(text: string): void {
  notice.value = '';
  queueMicrotask(() => (notice.value = text));
}

export function Notice() {
  useEffect(() => {
    if (!notice.value) return;
    const timer = setTimeout(() => (notice.value = ''), 6000);
    return () => clearTimeout(timer);
  }, [notice.value]);
  return (
    <div class="notice" role="status" aria-live="polite">
      {notice.value && <span>{notice.value}</span>}
    </div>
  );
}

export function OrderDialog() {
  const order = asked.value;
  return order ? <OrderForm order={order} key={order.title} /> : null;
}

function OrderForm({ order }: { order: Order }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [who, setWho] = useState(remembered(OPERATOR));
  const [reason, setReason] = useState('');
  const [error, setError] = useState<Error>();
  const [isRunning, setRunning] = useState(false);
  useEffect(() => dialog.current?.showModal(), []);
  const close = (): void => {
    dialog.current?.close();
    asked.value = undefined;
  };
  const run = (event: Event): void => {
    event.preventDefault();
    if (isRunning) return;
    setRunning(true);
    setError(undefined);
    if (order.isOperators) remember(OPERATOR, who.trim());
    order
      .run({ who: who.trim(), reason: reason.trim() })
      .then(() => {
        close();
        ordersGiven.value++;
        say(order.done);
      })
      .catch((why: Error) => setError(why))
      .finally(() => setRunning(false));
  };
  return (
    <dialog ref={dialog} aria-labelledby="order-title" onCancel={close} onClose={close}>
      <form onSubmit={run}>
        <h2 id="order-title">{order.title}</h2>
        <p>{order.text}</p>
        {order.isOperators && (
          <>
            <label>
              Who gives the order
              <input required maxLength={128} value={who} onInput={(e) => setWho(e.currentTarget.value)} autocomplete="username" />
            </label>
            <label>
              Reason
              <input maxLength={512} value={reason} onInput={(e) => setReason(e.currentTarget.value)} />
            </label>
            <p class="hint">Both are written to the audit log and shown to whoever is refused.</p>
          </>
        )}
        {error && <ErrorNote error={error} />}
        <div class="buttons">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class={order.isDangerous ? 'danger' : 'primary'} disabled={isRunning} aria-busy={isRunning}>
            {order.verb}
          </button>
        </div>
      </form>
    </dialog>
  );
}
