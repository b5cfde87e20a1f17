// A table that scrolls horizontally if it is wider than its panel. It can also be scrolled by
// keyboard. Columns can be sortable. On narrow screens, the rows of a table with many columns
// become cards.
import './table.css';
import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { Sorting } from './sort.ts';

/** A table with more columns becomes cards, unless it has a frame of its own. */
const MAX_COLUMNS = 6;

export interface Column {
  title: ComponentChildren;
  number?: boolean;
  /** Whether only screen readers get the title. */
  hidden?: boolean;
  /** Name of the value by which the column sorts the rows; missing if it cannot. */
  by?: string;
}

interface Props {
  label: string;
  class?: string;
  /** Class of the scrolling frame. */
  frame?: string;
  columns: readonly (string | Column)[];
  sorting?: Sorting;
  /** Table rows. */
  children: ComponentChildren;
}

export function Table({ label, class: name, frame, columns, sorting, children }: Props) {
  const table = useRef<HTMLTableElement>(null);
  const hasCards = !frame && columns.length > MAX_COLUMNS;
  // In cards, each value has the title of its column before it.
  useEffect(() => {
    if (!hasCards) return;
    const all = (selector: string) => [...table.current!.querySelectorAll(selector)];
    const titles = all('thead th').map((cell) => cell.textContent);
    for (const { children } of all('tbody tr')) {
      titles.forEach((title, column) => {
        const cell = children[column] as HTMLElement | undefined;
        if (cell && cell.dataset.title !== title) cell.dataset.title = title;
      });
    }
  });
  return (
    <div
      class={`scroll ${frame ?? ''} ${hasCards ? 'has-cards' : ''}`}
      tabIndex={0}
      role="region"
      aria-label={label}
    >
      <table class={name} ref={table}>
        <thead>
          <tr>
            {columns.map((column, index) => (
              <Header
                key={index}
                column={typeof column === 'string' ? { title: column } : column}
                sorting={sorting}
              />
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

function Header({ column, sorting }: { column: Column; sorting: Sorting | undefined }) {
  const { title, number, hidden, by } = column;
  const direction = sorting?.descending ? 'descending' : 'ascending';
  const isSorted = by && sorting?.by === by;
  return (
    <th
      scope="col"
      class={number ? 'number' : undefined}
      aria-sort={isSorted ? direction : undefined}
    >
      {hidden ? (
        <span class="visually-hidden">{title}</span>
      ) : by && sorting ? (
        <button type="button" class="sort" onClick={() => sorting.onSort(by)}>
          {title}
        </button>
      ) : (
        title
      )}
    </th>
  );
}
