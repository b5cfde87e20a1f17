// Sorting of the rows of a table by a column.
import { useMemo, useState } from 'preact/hooks';

interface Sort {
  by: string;
  descending: boolean;
}

/** The order of a table, and a function that changes it. */
export interface Sorting extends Sort {
  onSort(by: string): void;
}

/** A value to sort by. Null comes last in both directions. */
type SortValue = string | number | null | undefined;
type SortValues<T> = Readonly<Record<string, (row: T) => SortValue>>;

/** Returns sorted rows, and the properties of their table. At first, the column `by` descends. */
export function useSort<T>(rows: readonly T[], values: SortValues<T>, by: string) {
  const [sort, setSort] = useState<Sort>({ by, descending: true });
  const sorted = useMemo(() => sortRows(rows, values[sort.by]!, sort.descending), [rows, sort]);
  const onSort = (by: string) => {
    const value = rows.map(values[by]!).find((value) => value != null);
    // Numbers begin with the largest, texts with A.
    const descending = by === sort.by ? !sort.descending : typeof value !== 'string';
    setSort({ by, descending });
  };
  return { sorted, sorting: { ...sort, onSort } };
}

/** Returns the rows in the order of a value. Rows with equal values keep their order. */
export function sortRows<T>(
  rows: readonly T[],
  value: (row: T) => SortValue,
  descending: boolean,
): T[] {
  return rows.toSorted((one, two) => {
    const [a, b] = [value(one) ?? null, value(two) ?? null];
    if (a === b) return 0;
    if (a === null || b === null) return a === null ? 1 : -1;
    return a < b === descending ? 1 : -1;
  });
}
