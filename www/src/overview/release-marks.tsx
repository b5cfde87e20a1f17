// Marks of releases above the chart of traffic.
import { latest, type ReleaseInfo, type ReleaseList, type Series, useApi } from '../api.ts';
import { formatZoned } from '../time.ts';

/** A release in the range of a series. */
export interface ReleaseMark {
  serial: number;
  /** Start of validity, in seconds since the epoch. */
  at: number;
  /** Kind, time, author and note. */
  text: string;
}

/**
 * Returns the releases in the range of a series, oldest first. `newest` is the serial of the newest
 * release: when it changes, the releases are loaded again.
 */
export function useReleaseMarks(series: Series, newest: number | undefined): ReleaseMark[] {
  const releases = latest(useApi<ReleaseList>('/releases?limit=100', 0, newest))?.releases ?? [];
  const end = (series.at.at(-1) ?? 0) + series.step;
  return releases
    .flatMap(toMark)
    .filter(({ at }) => at >= (series.at[0] ?? 0) && at < end)
    .toReversed();
}

function toMark({ serial, kind, published, release }: ReleaseInfo): ReleaseMark[] {
  const at = published ?? release?.created;
  if (at === undefined) return [];
  const author = release?.author ? ` by ${release.author}` : '';
  const note = release?.note ? `: ${release.note}` : '';
  const text = `Release ${serial} (${kind}), ${formatZoned(1000 * at)}${author}${note}`;
  return [{ serial, at, text }];
}

/** Marks that are closer than this share of the range have one button. */
const GROUP = 0.15;

interface Props {
  series: Series;
  marks: readonly ReleaseMark[];
  /** Called with the text of the marks below the pointer or with the focus, or with null. */
  onShow(text: string | null): void;
}

/** A line at the time of each release, with serials. The text appears on hover and on focus. */
export function ReleaseMarks({ series, marks, onShow }: Props) {
  const length = series.at.length * series.step;
  const x = ({ at }: ReleaseMark) => (at - (series.at[0] ?? 0)) / length;
  const left = (mark: ReleaseMark) => ({ left: `${100 * x(mark)}%` });
  const groups: [ReleaseMark, ...ReleaseMark[]][] = [];
  for (const mark of marks) {
    const last = groups.at(-1);
    if (last && x(mark) - x(last[0]) < GROUP) last.push(mark);
    else groups.push([mark]);
  }
  return (
    <>
      <div class="marks" aria-hidden="true">
        {marks.map((mark) => (
          <span key={mark.serial} class="line" style={left(mark)} />
        ))}
      </div>
      <ol class="marks" aria-label="Releases">
        {groups.map((group) => {
          const [{ serial }] = group;
          const text = group.map(({ text }) => text).join('\n');
          return (
            <li key={serial} style={left(group[0])}>
              <button
                type="button"
                aria-label={text}
                onFocus={() => onShow(text)}
                onBlur={() => onShow(null)}
                onPointerEnter={() => onShow(text)}
                onPointerLeave={() => onShow(null)}
              >
                {group.length > 1 ? `${serial} to ${group.at(-1)!.serial}` : serial}
              </button>
            </li>
          );
        })}
      </ol>
    </>
  );
}
