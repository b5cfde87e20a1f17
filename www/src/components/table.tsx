// A table that scrolls horizontally if it is wider than its panel. It can also be scrolled by
// keyboard. On narrow screens, the rows of a table with many columns become cards.
import './table.css';
import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

/** A table with more columns becomes cards, unless it has a frame of its own. */
const MAX_COLUMNS = 6;

export interface Column {
  title: ComponentChildren;
  number?: boolean;
  /** Whether only screen readers get the title. */
  hidden?: boolean;
}

interface Props {
  label: string;
  class?: string;
  /** Class of the scrolling frame. */
  frame?: string;
  columns: readonly (string | Column)[];
  /** Table rows. */
  children: ComponentChildren;
}

export function Table({ label, class: name, frame, columns, children }: Props) {
  const table = useRef<HTMLTableElement>(null);
  const hasCards = !frame && columns.length > MAX_COLUMNS;
  // In cards, each value has the title of its column before it.
  useEffect(() => {
    if (!hasCards) return;
    const all = (selector: string) => [...table.current!.querySelectorAll(selector)];
    const titles = all('thead th').map((cell) => cell.textContent);
    for (const { children } of all('tbody tr')) {
      titles.forEach((title, column) => children[column]?.setAttribute('data-title', title));
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
              />
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

const Header = ({ column: { title, number, hidden } }: { column: Column }) => (
  <th scope="col" class={number ? 'number' : undefined}>
    {hidden ? <span class="visually-hidden">{title}</span> : title}
  </th>
);
