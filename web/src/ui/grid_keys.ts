/* Arrow keys in the grid. Left and right go through the cells in their order; up and down to the nearest cell of the line above or
 * below, as the eye sees it: also where a node's cards take several lines, or nodes stand side by side. */

function cellsOf(row: Element | null): HTMLElement[] {
  return row ? [...row.querySelectorAll<HTMLElement>('.cell')] : [];
}

/** Of these cells the nearest in the line that comes first in this direction, seen from (x, y). */
function nearest(cells: HTMLElement[], x: number, y: number, step: 1 | -1): HTMLElement | undefined {
  let best: { cell: HTMLElement; far: number; aside: number } | undefined;
  for (const cell of cells) {
    const box = cell.getBoundingClientRect();
    const far = Math.round(step * (box.top - y));
    const aside = Math.abs(box.left + box.width / 2 - x);
    if (far > 0 && (!best || far < best.far || (far === best.far && aside < best.aside))) best = { cell, far, aside };
  }
  return best?.cell;
}

function vertical(cell: HTMLElement, row: Element, step: 1 | -1): HTMLElement | undefined {
  const { top, left, width } = cell.getBoundingClientRect();
  const x = left + width / 2;
  const inRow = nearest(cellsOf(row), x, top, step);
  if (inRow) return inRow;
  // The nodes of the next line that has a card; more than one where they stand side by side.
  const line: HTMLElement[] = [];
  let lineTop: number | undefined;
  const from = row.getBoundingClientRect().top;
  for (let next = sibling(row, step); next; next = sibling(next, step)) {
    const at = next.getBoundingClientRect().top;
    if (step * (at - from) <= 1) continue;
    if (lineTop !== undefined && Math.abs(at - lineTop) > 1) break;
    line.push(...cellsOf(next));
    if (line.length) lineTop ??= at;
  }
  return nearest(line, x, top, step);
}

function sibling(row: Element, step: 1 | -1): Element | null {
  return step > 0 ? row.nextElementSibling : row.previousElementSibling;
}

function sideways(cell: HTMLElement, grid: Element, step: 1 | -1): HTMLElement | undefined {
  const cells = cellsOf(grid);
  return cells[cells.indexOf(cell) + step];
}

export function onGridKey(event: KeyboardEvent): void {
  const cell = (event.target as Element).closest<HTMLElement>('.cell');
  const grid = event.currentTarget as Element;
  const row = cell?.closest('.node-row');
  if (!cell || !row) return;
  const moves: Record<string, () => HTMLElement | undefined> = {
    ArrowRight: () => sideways(cell, grid, 1),
    ArrowLeft: () => sideways(cell, grid, -1),
    ArrowDown: () => vertical(cell, row, 1),
    ArrowUp: () => vertical(cell, row, -1),
    Home: () => cellsOf(grid)[0],
    End: () => cellsOf(grid).at(-1),
  };
  const next = moves[event.key]?.();
  if (event.key.startsWith('Arrow') || next) event.preventDefault();
  next?.focus();
}

/** The cell with the focus is the one that Tab comes back to. */
export function onGridFocus(event: FocusEvent): void {
  const cell = (event.target as Element).closest<HTMLElement>('.cell');
  if (!cell) return;
  (event.currentTarget as Element).querySelectorAll('.cell[tabindex="0"]').forEach((other) => other.setAttribute('tabindex', '-1'));
  cell.setAttribute('tabindex', '0');
}
