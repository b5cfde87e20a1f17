// A timeline of indicators, from the first firing to now. A solid bar reaches from the first firing
// to the last, and a pale one on to the expiry or to now.
import type { IndicatorInfo } from '../api.ts';
import { Name, Time } from '../components/ui.tsx';
import { count } from '../format.ts';

/** Returns a lane per correlation, which combines all of its keys. */
function lanes(indicators: readonly IndicatorInfo[]) {
  const groups = Map.groupBy(indicators, ({ correlation }) => correlation);
  return [...groups].map(([correlation, group]) => ({
    correlation,
    keys: group.length,
    first: Math.min(...group.map(({ first }) => first)),
    last: Math.max(...group.map(({ last }) => last)),
    until: Math.max(...group.map(({ expires, revoked_at }) => revoked_at ?? expires)),
    revoked: group.flatMap(({ revoked_at }) => revoked_at ?? []),
  }));
}

export function Timeline({ indicators }: { indicators: readonly IndicatorInfo[] }) {
  const now = Date.now() / 1000;
  const all = lanes(indicators);
  const start = Math.min(...all.map(({ first }) => first));
  // Not to the expiry, which may be weeks away: the activity would be too small to see.
  const end = Math.max(now, ...all.map(({ last }) => last));
  const x = (at: number) => (100 * (Math.min(at, end) - start)) / (end - start || 1);
  const span = (from: number, to: number) => ({
    left: `${x(from)}%`,
    width: `${x(to) - x(from)}%`,
  });
  return (
    <section class="timeline" aria-label="Timeline of the indicators">
      <ul>
        {all.map(({ correlation, keys, first, last, until, revoked }) => (
          <li key={correlation}>
            <span class="name">
              <Name>{correlation}</Name>{' '}
              <span class="note">{keys === 1 ? '1 key' : `${count(keys)} keys`}</span>
            </span>
            <span class="lane">
              <span class="active" style={span(first, until)} />
              <span class="firing" style={span(first, last)} />
              {revoked.map((at) => (
                <span key={at} class="revocation" style={{ left: `${x(at)}%` }} />
              ))}
            </span>
          </li>
        ))}
      </ul>
      <p class="ends note">
        <Time at={start * 1000} />
        <span>
          now, <Time at={end * 1000} />
        </span>
      </p>
      <p class="note">
        Solid: first to last firing. Pale: the keys still count, until the last one expires or is
        revoked. The table below lists the times.
      </p>
    </section>
  );
}
