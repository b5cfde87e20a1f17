// The filters of the list. They are part of the address, so that a filtered list can be shared.
import { ACTIONS, BANDS } from '../api.ts';
import { Time } from '../components/ui.tsx';
import { navigate } from '../router.ts';
import { findRequestId } from './appeal.ts';
import { fromInput, toInput, zone } from '../time.ts';

type FilterValues = Record<string, string>;

const TEXT_FILTERS: readonly [name: string, label: string, hint: string][] = [
  ['signature', 'Signature', 'synthesis_pairs'],
  ['account', 'Account', 'first digits'],
  ['cluster', 'Cluster', '5b0f3a91'],
  ['model', 'Model', 'demo-large'],
  ['colo', 'Colo', 'FRA'],
  ['id', 'Request id', 'id, reference or header line'],
];
/** Filters by time, in milliseconds since the epoch; `until` is exclusive. */
const TIME_FILTERS: readonly [name: string, label: string][] = [
  ['since', 'From'],
  ['until', 'To'],
];
const NAMES = ['band', 'action', 'enforced', ...TEXT_FILTERS.map(([name]) => name)];

/** The largest time of a `Date`, in milliseconds since the epoch. */
const MAX_TIME = 8.64e15;

/** Parses a time. Returns null if the time is missing, or out of the range of `Date`. */
const parseTime = (value: string | null | undefined) =>
  value && Math.abs(Number(value)) <= MAX_TIME ? Number(value) : null;

/** Returns the filters in the parameters of the address. Other parameters are left out. */
export function filtersOf(params: URLSearchParams): FilterValues {
  const texts = NAMES.map((name) => {
    const text = params.get(name)?.trim();
    return [name, name === 'id' && text ? (findRequestId(text).id ?? text) : text];
  });
  const times = TIME_FILTERS.map(([name]) => [name, parseTime(params.get(name))?.toString()]);
  return Object.fromEntries([...texts, ...times].filter(([, value]) => value));
}

export function Filters({ filters }: { filters: FilterValues }) {
  const isEmpty = Object.keys(filters).length === 0;
  const apply = (event: Event) => {
    event.preventDefault();
    const { name, value, type } = event.target as HTMLInputElement | HTMLSelectElement;
    const at = type === 'datetime-local' && value ? fromInput(value) : null;
    // Ignores times before 1970, which the first digits of a year mean while the user types.
    if (at !== null && !(at > 0)) return;
    const text = value.trim();
    const id = name === 'id' ? findRequestId(text).id : null;
    navigate('decisions', { ...filters, [name]: at ?? id ?? text });
  };
  return (
    <form
      class="fields filters"
      onSubmit={(event) => event.preventDefault()}
      onChange={apply}
      role="search"
      aria-label="Filter decisions"
    >
      <Choice name="band" label="Band" values={[...BANDS, 'unscored']} value={filters.band} />
      <Choice name="action" label="Action" values={ACTIONS} value={filters.action} />
      <Choice name="enforced" label="Enforced" values={['true']} value={filters.enforced} />
      {TEXT_FILTERS.map(([name, label, hint]) => (
        <label key={name} class={`filter-${name}`}>
          {label}
          <input
            name={name}
            value={filters[name] ?? ''}
            placeholder={hint}
            autocomplete="off"
            spellcheck={false}
          />
        </label>
      ))}
      {TIME_FILTERS.map(([name, label]) => (
        <label key={name} class="filter-time">
          {label} ({zone(parseTime(filters[name]) ?? undefined)})
          <input type="datetime-local" name={name} value={toInput(parseTime(filters[name]))} />
        </label>
      ))}
      {/* Not `disabled`, because a disabled button loses the focus. */}
      <button
        type="button"
        class="quiet"
        aria-disabled={isEmpty}
        onClick={() => isEmpty || navigate('decisions')}
      >
        Clear filters
      </button>
      <TimeRange filters={filters} />
    </form>
  );
}

/** Shows the time range with seconds, because the inputs show only minutes. */
function TimeRange({ filters: { since, until, ...others } }: { filters: FilterValues }) {
  const from = parseTime(since);
  const to = parseTime(until);
  if (from === null && to === null) return null;
  const clear = () => {
    navigate('decisions', others);
    // Moves the focus, because the button disappears together with the range.
    document.getElementsByName('since')[0]?.focus();
  };
  return (
    <p class="row range">
      <span>
        Decisions{' '}
        {from !== null && (
          <>
            from <Time at={from} />
          </>
        )}{' '}
        {to !== null && (
          <>
            to <Time at={to} />
          </>
        )}
      </span>
      <button type="button" onClick={clear}>
        Any time
      </button>
    </p>
  );
}

interface ChoiceProps {
  name: string;
  label: string;
  values: readonly string[];
  value?: string;
}

function Choice({ name, label, values, value = '' }: ChoiceProps) {
  return (
    <label>
      {label}
      <select name={name} value={value}>
        <option value="">any</option>
        {values.map((option) => (
          <option key={option} value={option}>
            {option}
          </option>
        ))}
      </select>
    </label>
  );
}
