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
