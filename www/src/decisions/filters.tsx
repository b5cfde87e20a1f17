// The filters of the list. They are part of the address, so that a filtered list can be shared.
import { Time } from '../components/ui.tsx';
import { link, navigate, parseLocation, STEP } from '../router.ts';
import { fromInput, toInput, zone } from '../time.ts';
import { CHOICES, type FilterValues, type Known, toPattern } from './known.ts';
import { requestIdIn } from './request-id.ts';

const TEXT_FILTERS: readonly [name: string, label: string, hint: string][] = [
  ['signature', 'Signature', 'name or a part'],
  ['account', 'Account', 'first digits'],
  ['cluster', 'Cluster', 'id or a part'],
  ['model', 'Model', 'name or a part'],
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
    const value = params.get(name)?.trim();
    return [name, value && name === 'id' ? requestIdIn(value) : value];
  });
  const step = params.get(STEP)?.split('-') ?? [];
  const times = TIME_FILTERS.map(([name], index) => [
    name,
    parseTime(step[index] ?? params.get(name))?.toString(),
  ]);
  return Object.fromEntries([...texts, ...times].filter(([, value]) => value));
}

/**
 * Returns the filters other than the time range. Links add the time range of the address, which may
 * be one of the last minutes.
 */
export const withoutRange = ({ since, until, ...others }: FilterValues): FilterValues => others;

/** Filters with patterns: the API matches `*` with any part of a value. */
const PATTERNS = ['signature', 'cluster', 'model', 'colo'];

/** Converts a text that the user typed to the value of a filter. */
function toValue(name: string, text: string, known: Known): string {
  if (name === 'id') return requestIdIn(text);
  if (name === 'account') return text.toLowerCase();
  return PATTERNS.includes(name) ? toPattern(text, known[name]) : text;
}

interface Props {
  filters: FilterValues;
  /** Holds the known values. They do not render the form again, which would reset its inputs. */
  known: { current: Known };
  onFocus(): void;
}

export function Filters({ filters, known, onFocus }: Props) {
  const isEmpty = Object.keys(filters).length === 0;
  const apply = (event: Event) => {
    event.preventDefault();
    const { name, value, type } = event.target as HTMLInputElement | HTMLSelectElement;
    const at = type === 'datetime-local' && value ? fromInput(value) : null;
    // Ignores times before 1970, which the first digits of a year mean while the user types.
    if (at !== null && !(at > 0)) return;
    if (type === 'datetime-local') {
      const compare = parseLocation().params.get('compare');
      return navigate('decisions', { ...filters, compare, [name]: at });
    }
    const typed = toValue(name, value.trim(), known.current);
    location.hash = link('decisions', { ...withoutRange(filters), [name]: typed });
  };
  return (
    <form
      class="fields filters"
      onSubmit={(event) => event.preventDefault()}
      onChange={apply}
      onFocusIn={onFocus}
      role="search"
      aria-label="Filter decisions"
    >
      <Choice name="band" label="Band" values={CHOICES.band} value={filters.band} />
      <Choice name="action" label="Action" values={CHOICES.action} value={filters.action} />
      <Choice name="enforced" label="Enforced" values={['true']} value={filters.enforced} />
      {TEXT_FILTERS.map(([name, label, hint]) => (
        <label key={name} class={`filter-${name}`}>
          {label}
          <input
            name={name}
            value={filters[name] ?? ''}
            placeholder={hint}
            list={`known-${name}`}
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

/** The known values, which the browser offers while the user types. */
export const Suggestions = ({ known }: { known: Known }) => (
  <>
    {Object.entries(known).map(([name, values]) => (
      <datalist key={name} id={`known-${name}`}>
        {values.map((value) => (
          <option key={value} value={value} />
        ))}
      </datalist>
    ))}
  </>
);

/** Shows the time range with seconds, because the inputs show only minutes. */
function TimeRange({ filters }: { filters: FilterValues }) {
  const from = parseTime(filters.since);
  const to = parseTime(filters.until);
  if (from === null && to === null) return null;
  const clear = () => {
    navigate('decisions', withoutRange(filters));
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
        {/* Shows a value of the address even if it is unknown. */}
        {[...new Set([...values, value])].filter(Boolean).map((option) => (
          <option key={option} value={option}>
            {option}
          </option>
        ))}
      </select>
    </label>
  );
}
