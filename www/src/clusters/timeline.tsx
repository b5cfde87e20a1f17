// When indicators held: from the first firing to the last, and on until they expire.
import { Time } from '../components/parts.tsx';
import { count } from '../format.ts';
import type { Indicator } from './types.ts';

/** A correlation's keys together: from the first that held to the last that counts. */
function lanes(indicators: readonly Indicator[]) {
  return [...Map.groupBy(indicators, ({ correlation }) => correlation)].map(([correlation, own]) => ({
    correlation,
    keys: own.length,
    first: Math.min(...own.map(({ first }) => first)),
    last: Math.max(...own.map(({ last }) => last)),
    until: Math.max(...own.map(({ expires, revoked }) => revoked ?? expires)),
    revoked: own.flatMap(({ revoked }) => revoked ?? []),
  }));
}

export function Timeline({ indicators }: { indicators: readonly Indicator[] }) {
  const now = Date.now() / 1000;
  const all = lanes(indicators);
  const start = Math.min(...all.map(({ first }) => first));
  const end = Math.max(now, ...all.map(({ until }) => until));
  const x = (at: number) => (100 * (at - start)) / (end - start || 1);
  return (
    <section class="timeline" aria-label="When the indicators held">
      <ul>
        {all.map(({ correlation, keys, first, last, until, revoked }) => (
          <li key={correlation}>
            <span class="name">
              {correlation} <span class="note">{keys === 1 ? '1 key' : `${count(keys)} keys`}</span>
            </span>
            <span class="lane">
              <span class="lasts" style={{ left: `${x(first)}%`, width: `${x(until) - x(first)}%` }} />
              <span class="held" style={{ left: `${x(first)}%`, width: `${x(last) - x(first)}%` }} />
              {revoked.map((at) => (
                <span key={at} class="cut" style={{ left: `${x(at)}%` }} />
              ))}
              <span class="now" style={{ left: `${x(now)}%` }} />
            </span>
          </li>
        ))}
      </ul>
      <p class="ends note">
        <Time at={start * 1000} />
        <Time at={end * 1000} />
      </p>
      <p class="note">Solid: from the first firing to the last. Pale: until the last of its keys expires or was revoked. The line is now. The table below has the times.</p>
    </section>
  );
}
