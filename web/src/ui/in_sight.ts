/* Whether a row is in sight, or nearly. What is far away is not kept up to date: with 1,600 cards that is most of the work. */
import { signal, type ReadonlySignal, type Signal } from '@preact/signals';

/** For what is always drawn. */
export const ALWAYS: ReadonlySignal<boolean> = signal(true);

const seen = new WeakMap<Element, Signal<boolean>>();

const observer =
  typeof IntersectionObserver === 'undefined'
    ? undefined
    : new IntersectionObserver(
        (entries) => {
          for (const entry of entries) {
            const isInSight = seen.get(entry.target);
            if (isInSight) isInSight.value = entry.isIntersecting;
          }
        },
        { rootMargin: '300px' },
      );

/** Keeps the signal up to date for the element. Returns how to stop that. */
export function watchSight(element: Element, isInSight: Signal<boolean>): () => void {
  if (!observer) {
    isInSight.value = true;
    return () => {};
  }
  seen.set(element, isInSight);
  observer.observe(element);
  return () => observer.unobserve(element);
}
