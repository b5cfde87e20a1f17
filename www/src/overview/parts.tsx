// Small parts of the overview.

/** How much more or less the second half of the range has than the first; `where` says so, too. NaN is a half that has none. */
export function Trend({ first, second, points = false, where = false }: { first: number; second: number; points?: boolean; where?: boolean }) {
  const [arrow, words] = points ? change(second - first, `${Math.abs(100 * (second - first)).toFixed(1)} points`) : relative(first, second);
  return (
    <>
      <span class="trend" title="Second half of the range against the first" aria-hidden="true">
        {arrow} {words}
      </span>
      <span aria-hidden="true">{where && ' in the second half'}</span>
      <span class="visually-hidden">{spoken(arrow, words)}</span>
    </>
  );
}

type Change = readonly ['▲' | '▼' | '', string];

function relative(first: number, second: number): Change {
  if (!first) return second ? ['▲', 'new'] : ['', '–'];
  const percent = Math.round((100 * (second - first)) / first);
  return percent > 999 ? ['▲', `× ${Math.round(second / first)}`] : change(percent, `${Math.abs(percent)} %`);
}

function change(by: number, words: string): Change {
  if (Number.isNaN(by)) return ['', '–'];
  return Math.abs(by) < 5e-4 ? ['', 'steady'] : [by > 0 ? '▲' : '▼', words];
}

/** The same as a sentence that can be heard. */
function spoken(arrow: Change[0], words: string): string {
  if (words === '–') return 'Nothing to compare';
  if (words === 'new') return 'None in the first half of the range, some in the second';
  if (words === 'steady') return 'As much in the second half of the range as in the first';
  if (words.startsWith('×')) return `${words.slice(2)} times as much in the second half of the range as in the first`;
  return `${words} ${arrow === '▲' ? 'more' : 'less'} in the second half of the range than in the first`;
}

/** A line without axes: only its shape counts. */
export function Spark({ points }: { points: readonly number[] }) {
  const most = Math.max(1, ...points);
  const x = (step: number) => (points.length > 1 ? (step / (points.length - 1)) * 96 + 2 : 50);
  const path = points.map((value, step) => `${x(step).toFixed(1)},${(20 - (value / most) * 18).toFixed(1)}`).join(' ');
  return (
    <svg class="spark" viewBox="0 0 100 22" preserveAspectRatio="none" aria-hidden="true">
      <polyline points={path} />
    </svg>
  );
}
