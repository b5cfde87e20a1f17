// The frame of a table: it scrolls by itself where it is wider than its panel, with the keyboard, too.
import type { ComponentChildren } from 'preact';

export interface Column {
  title: ComponentChildren;
  number?: boolean;
  /** The title is only heard. */
  hidden?: boolean;
}

interface Props {
  label: string;
  /** Of the table. */
  class?: string;
  /** A class of what scrolls. */
  frame?: string;
  columns: readonly (string | Column)[];
  /** Its rows. */
  children: ComponentChildren;
}

export function Table({ label, class: name, frame, columns, children }: Props) {
  return (
    <div class={frame ? `scroll ${frame}` : 'scroll'} tabIndex={0} role="region" aria-label={label}>
      <table class={name}>
        <thead>
          <tr>
            {columns.map((column, place) => {
              const { title, number, hidden }: Column = typeof column === 'string' ? { title: column } : column;
              return (
                <th key={place} scope="col" class={number ? 'number' : undefined}>
                  {hidden ? <span class="visually-hidden">{title}</span> : title}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
