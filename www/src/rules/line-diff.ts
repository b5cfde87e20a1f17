/** A line of a comparison; `kind` is `…` for unchanged lines that are left out. */
export interface DiffLine {
  kind: ' ' | '+' | '-' | '…';
  text: string;
}

/** Unchanged lines that are shown before and after a change. */
const CONTEXT = 3;

/** Maximum number of compared pairs of lines. Longer changes are shown as a whole. */
const MAX_PAIRS = 4_000_000;

/** Compares two texts line by line. Returns no lines if they are equal. */
export function diffLines(before: string, after: string): DiffLine[] {
  const [a, b] = [before.split('\n'), after.split('\n')];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  const rest = Math.min(a.length, b.length) - start;
  while (end < rest && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const toLines = (texts: string[]) => texts.map((text): DiffLine => ({ kind: ' ', text }));
  return hideUnchanged([
    ...toLines(a.slice(0, start)),
    ...diffMiddle(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ...toLines(a.slice(a.length - end)),
  ]);
}

/** Compares lines by their longest common subsequence. */
function diffMiddle(a: string[], b: string[]): DiffLine[] {
  const width = b.length + 1;
  const isLong = a.length * b.length > MAX_PAIRS;
  // The length of the longest common subsequence of the lines from `i` and from `j` on.
  const common = new Uint16Array(isLong ? 0 : (a.length + 1) * width);
  const at = (i: number, j: number) => common[i * width + j] ?? 0;
  for (let i = isLong ? -1 : a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const longest = Math.max(at(i + 1, j), at(i, j + 1));
      common[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : longest;
    }
  }
  const lines: DiffLine[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (!isLong && i < a.length && j < b.length && a[i] === b[j]) {
      lines.push({ kind: ' ', text: a[i]! });
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && at(i + 1, j) >= at(i, j + 1))) {
      lines.push({ kind: '-', text: a[i++]! });
    } else {
      lines.push({ kind: '+', text: b[j++]! });
    }
  }
  return lines;
}

/** Replaces unchanged lines that are far from a change by `…`. */
function hideUnchanged(lines: DiffLine[]): DiffLine[] {
  const near = new Set<number>();
  lines.forEach(({ kind }, at) => {
    if (kind === ' ') return;
    for (let line = at - CONTEXT; line <= at + CONTEXT; line += 1) near.add(line);
  });
  if (near.size === 0) return [];
  return lines.flatMap((line, at): DiffLine[] => {
    if (near.has(at)) return [line];
    return at === 0 || near.has(at - 1) ? [{ kind: '…', text: '' }] : [];
  });
}
