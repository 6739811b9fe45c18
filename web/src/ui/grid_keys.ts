/* Arrow keys in the grid. Left and right go through the cells in their order, up and down to the cell nearest to the column, in the
 * row above or below: also where a narrow window has broken a node's cards into several lines. */

function cellsOf(row: Element | null): HTMLElement[] {
  return row ? [...row.querySelectorAll<HTMLElement>('.cell')] : [];
}

function centre(cell: HTMLElement): number {
  return cell.offsetLeft + cell.offsetWidth / 2;
}

function nearest(cells: HTMLElement[], x: number): HTMLElement | undefined {
  let best: HTMLElement | undefined;
  for (const cell of cells) if (!best || Math.abs(centre(cell) - x) < Math.abs(centre(best) - x)) best = cell;
  return best;
}

function line(cells: HTMLElement[], top: number): HTMLElement[] {
  return cells.filter((cell) => cell.offsetTop === top);
}

function vertical(cell: HTMLElement, row: Element, step: 1 | -1): HTMLElement | undefined {
  const tops = [...new Set(cellsOf(row).map((c) => c.offsetTop))];
  const here = tops[tops.indexOf(cell.offsetTop) + step];
  if (here !== undefined) return nearest(line(cellsOf(row), here), centre(cell));
  let next: Element | null = row;
  do next = step > 0 ? next.nextElementSibling : next.previousElementSibling;
  while (next && !next.querySelector('.cell'));
  const cells = cellsOf(next);
  const edge = cells[step > 0 ? 0 : cells.length - 1];
  return edge && nearest(line(cells, edge.offsetTop), centre(cell));
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
