/* A component that is drawn anew only when its properties have changed, as `same` sees it. */
import { Component, h, type ComponentType, type VNode } from 'preact';

export function memo<P extends object>(Inner: ComponentType<P>, same: (a: P, b: P) => boolean): ComponentType<P> {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      return !same(this.props as P, next);
    }
    render(): VNode {
      return h(Inner as ComponentType<object>, this.props);
    }
  } as unknown as ComponentType<P>;
}
