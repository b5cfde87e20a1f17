// When indicators held: from the first firing to the last, and on until they expire.
import { Time } from '../components/parts.tsx';
import type { Indicator } from './types.ts';

export function Timeline({ indicators }: { indicators: readonly Indicator[] }) {
  const now = Date.now() / 1000;
  const start = Math.min(...indicators.map(({ first }) => first));
  const end = Math.max(now, ...indicators.map(({ expires }) => expires));
  const x = (at: number) => (100 * (at - start)) / (end - start || 1);
  return (
    <section class="timeline" aria-label="When the indicators held">
      <ul>
        {indicators.map(({ id, correlation, first, last, expires, revoked }) => (
          <li key={id}>
            <span class="name">{correlation}</span>
            <span class="lane">
              <span class="lasts" style={{ left: `${x(first)}%`, width: `${x(revoked ?? expires) - x(first)}%` }} />
              <span class="held" style={{ left: `${x(first)}%`, width: `${x(last) - x(first)}%` }} />
              {revoked !== null && <span class="cut" style={{ left: `${x(revoked)}%` }} />}
              <span class="now" style={{ left: `${x(now)}%` }} />
            </span>
          </li>
        ))}
      </ul>
      <p class="ends note">
        <Time at={start * 1000} />
        <Time at={end * 1000} />
      </p>
      <p class="note">Solid: from the first firing to the last. Pale: until it expires or was revoked. The line is now. The table below has the times.</p>
    </section>
  );
}
