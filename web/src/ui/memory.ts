/* What this browser remembers between visits: names only. A browser that forbids it forgets, and nothing else happens. */

export const OPERATOR = 'kohakuriver.operator';
export const OWNER = 'kohakuriver.owner';

export function remembered(name: string): string {
  try {
    return localStorage.getItem(name) ?? '';
  } catch {
    return '';
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    /* forgotten, then */
  }
}
