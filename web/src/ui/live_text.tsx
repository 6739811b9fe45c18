/* Figures that change all the time: written straight into the page, without drawing anything anew, and only while in sight. */
import { effect, type ReadonlySignal } from '@preact/signals';
import { useLayoutEffect, useRef } from 'preact/hooks';

/** `text` reads signals; where one changes, the text is written again. */
export function LiveText({ text, isInSight }: { text: () => string; isInSight: ReadonlySignal<boolean> }) {
  const place = useRef<HTMLElement>(null);
  useLayoutEffect(
    () =>
      effect(() => {
        if (!isInSight.value || !place.current) return;
        const next = text();
        if (place.current.textContent !== next) place.current.textContent = next;
      }),
    [isInSight],
  );
  return <b ref={place} />;
}

/** The same as a bar: a share from 0 to 1, undefined when it is not known. */
export function LiveBar({ share, kind, isInSight }: { share: () => number | undefined; kind: string; isInSight: ReadonlySignal<boolean> }) {
  const place = useRef<HTMLElement>(null);
  useLayoutEffect(
    () =>
      effect(() => {
        const bar = place.current;
        if (!isInSight.value || !bar) return;
        const value = share();
        const look = value === undefined ? 'bar unknown' : `bar ${kind}`;
        const transform = `scaleX(${(value ?? 0).toFixed(2)})`;
        const fill = bar.firstElementChild as HTMLElement;
        if (bar.className !== look) bar.className = look;
        if (fill.style.transform !== transform) fill.style.transform = transform;
      }),
    [isInSight],
  );
  return (
    <span ref={place}>
      <i />
    </span>
  );
}
