// A table that scrolls horizontally if it is wider than its panel. It can also be scrolled by
// keyboard.
import type { ComponentChildren } from 'preact';

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
  return (
    <div class={frame ? `scroll ${frame}` : 'scroll'} tabIndex={0} role="region" aria-label={label}>
      <table class={name}>
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
