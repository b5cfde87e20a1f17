// Trends: the second half of the range compared with the first.

interface Props {
  /** Value of the first half; NaN if it is unknown. */
  first: number;
  second: number;
  /** Shows the difference of two shares in percentage points. */
  points?: boolean;
  /** Adds “in the second half”. */
  explained?: boolean;
}

/** The relative change from the first half of the range to the second. */
export function Trend({ first, second, points = false, explained = false }: Props) {
  const difference = second - first;
  const [arrow, text] = points
    ? toChange(difference, `${Math.abs(100 * difference).toFixed(1)} points`)
    : relativeChange(first, second);
  return (
    <>
      <span class="trend" title="Second half of the range against the first" aria-hidden="true">
        {arrow} {text}
      </span>
      <span aria-hidden="true">{explained && ' in the second half'}</span>
      <span class="visually-hidden">{spokenChange(arrow, text)}</span>
    </>
  );
}

/** An arrow and a text. */
type Change = readonly ['▲' | '▼' | '', string];

function relativeChange(first: number, second: number): Change {
  if (!first) return second ? ['▲', 'new'] : ['', '–'];
  const percent = Math.round((100 * (second - first)) / first);
  if (percent > 999) return ['▲', `× ${Math.round(second / first)}`];
  return toChange(percent, `${Math.abs(percent)} %`);
}

function toChange(difference: number, text: string): Change {
  if (Number.isNaN(difference)) return ['', '–'];
  return Math.abs(difference) < 5e-4 ? ['', 'steady'] : [difference > 0 ? '▲' : '▼', text];
}

/** Returns the change as a sentence for screen readers. */
function spokenChange(arrow: Change[0], text: string): string {
  if (text === '–') return 'Nothing to compare';
  if (text === 'new') return 'None in the first half of the range, some in the second';
  if (text === 'steady') return 'No change from the first half of the range to the second';
  if (text.startsWith('×')) {
    const factor = text.slice(2);
    return `${factor} times as much in the second half of the range as in the first`;
  }
  const direction = arrow === '▲' ? 'more' : 'less';
  return `${text} ${direction} in the second half of the range than in the first`;
}

/** A line without axes, which shows only the shape of a series. */
export function Spark({ points }: { points: readonly number[] }) {
  const max = Math.max(1, ...points);
  const x = (step: number) => (points.length > 1 ? (step / (points.length - 1)) * 96 + 2 : 50);
  const y = (value: number) => 20 - (value / max) * 18;
  const path = points.map((value, step) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`);
  return (
    <svg class="spark" viewBox="0 0 100 22" preserveAspectRatio="none" aria-hidden="true">
      <polyline points={path.join(' ')} />
    </svg>
  );
}
