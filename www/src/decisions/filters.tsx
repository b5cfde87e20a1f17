// What to look for. It stands in the address, so that a view can be passed on.
import { ACTIONS, BANDS } from '../api.ts';
import { Time } from '../components/parts.tsx';
import { go } from '../router.ts';

const TEXTS: readonly [name: string, label: string, hint: string][] = [
  ['signature', 'Signature', 'synthesis_pairs'],
  ['account', 'Account', 'first digits do'],
  ['cluster', 'Cluster', '5b0f3a91'],
  ['model', 'Model', 'demo-large'],
  ['colo', 'Colo', 'FRA'],
  ['id', 'Request id', 'first digits do'],
];
/** In milliseconds since the epoch; the second is exclusive. */
const TIMES: readonly [name: string, label: string][] = [
  ['since', 'From'],
  ['until', 'To'],
];
const NAMES = ['band', 'action', ...TEXTS.map(([name]) => name)];

/** Null where it is no time that a date can be made of. */
const timeOf = (value: string | null | undefined) => (value && Math.abs(Number(value)) <= 8.64e15 ? Number(value) : null);

/** The filters that are set; nothing else of the address. */
export function filtersOf(params: URLSearchParams): Record<string, string> {
  const texts = NAMES.map((name) => [name, params.get(name)?.trim()]);
  const times = TIMES.map(([name]) => [name, timeOf(params.get(name))?.toString()]);
  return Object.fromEntries([...texts, ...times].filter(([, value]) => value));
}

export function Filters({ filters }: { filters: Record<string, string> }) {
  const empty = Object.keys(filters).length === 0;
  const apply = (event: Event) => {
    event.preventDefault();
    const { name, value, type } = event.target as HTMLInputElement | HTMLSelectElement;
    const at = type === 'datetime-local' && value ? Date.parse(value) : null;
    // While a year is typed, it is one of antiquity.
    if (at !== null && !(at > 0)) return;
    go('decisions', { ...filters, [name]: at ?? value.trim() });
  };
  return (
    <form class="fields filters" onSubmit={(event) => event.preventDefault()} onChange={apply} role="search" aria-label="Filter decisions">
      <Choice name="band" label="Band" values={[...BANDS, 'unscored']} value={filters.band} />
      <Choice name="action" label="Action" values={ACTIONS} value={filters.action} />
      {TEXTS.map(([name, label, hint]) => (
        <label key={name} class={`filter-${name}`}>
          {label}
          <input name={name} value={filters[name] ?? ''} placeholder={hint} autocomplete="off" spellcheck={false} />
        </label>
      ))}
      {TIMES.map(([name, label]) => (
        <label key={name} class="filter-time">
          {label}
          <input type="datetime-local" name={name} value={local(timeOf(filters[name]))} />
        </label>
      ))}
      {/* Disabled it would lose the focus. */}
      <button type="button" class="quiet" aria-disabled={empty} onClick={() => empty || go('decisions')}>
        Clear filters
      </button>
      <Range filters={filters} />
    </form>
  );
}

/** To the second, which the boxes do not show. */
function Range({ filters: { since, until, ...others } }: { filters: Record<string, string> }) {
  const [from, to] = [timeOf(since), timeOf(until)];
  if (from === null && to === null) return null;
  const clear = () => {
    go('decisions', others);
    // The button goes with what it clears.
    document.getElementsByName('since')[0]?.focus();
  };
  return (
    <p class="row range">
      <span>
        Decisions {from !== null && <>from <Time at={from} /></>} {to !== null && <>to <Time at={to} /></>}
      </span>
      <button type="button" onClick={clear}>
        Of any time
      </button>
    </p>
  );
}

/** As its box takes it: minutes, in the zone of whoever looks. */
function local(at: number | null): string {
  if (at === null) return '';
  const minutes = new Date(at).getTimezoneOffset();
  const shifted = at - minutes * 60_000;
  return shifted > 0 && shifted < 2e14 ? new Date(shifted).toISOString().slice(0, 16) : '';
}

function Choice({ name, label, values, value = '' }: { name: string; label: string; values: readonly string[]; value?: string }) {
  return (
    <label>
      {label}
      <select name={name} value={value}>
        <option value="">any</option>
        {values.map((own) => (
          <option key={own} value={own}>
            {own}
          </option>
        ))}
      </select>
    </label>
  );
}
