// What to look for. It stands in the address, so that a view can be passed on.
import { ACTIONS, BANDS } from '../api.ts';
import { go } from '../router.ts';

const TEXTS: readonly [name: string, label: string, hint: string][] = [
  ['signature', 'Signature', 'synthesis_pairs'],
  ['account', 'Account', 'first digits do'],
  ['cluster', 'Cluster', '5b0f3a91'],
  ['model', 'Model', 'demo-large'],
  ['colo', 'Colo', 'FRA'],
  ['id', 'Request id', 'first digits do'],
];
const NAMES = ['band', 'action', ...TEXTS.map(([name]) => name)];

/** The filters that are set; nothing else of the address. */
export const filtersOf = (params: URLSearchParams) => Object.fromEntries(NAMES.map((name) => [name, params.get(name)?.trim()]).filter(([, value]) => value)) as Record<string, string>;

export function Filters({ params }: { params: URLSearchParams }) {
  const own = filtersOf(params);
  const apply = (event: Event) => {
    event.preventDefault();
    const { name, value } = event.target as HTMLInputElement | HTMLSelectElement;
    go('decisions', { ...own, [name]: value.trim() });
  };
  return (
    <form class="fields filters" onSubmit={(event) => event.preventDefault()} onChange={apply} role="search" aria-label="Filter decisions">
      <Choice name="band" label="Band" values={[...BANDS, 'unscored']} value={own.band} />
      <Choice name="action" label="Action" values={ACTIONS} value={own.action} />
      {TEXTS.map(([name, label, hint]) => (
        <label key={name} class={`filter-${name}`}>
          {label}
          <input name={name} value={own[name] ?? ''} placeholder={hint} autocomplete="off" spellcheck={false} />
        </label>
      ))}
      <button type="button" class="quiet" disabled={Object.keys(own).length === 0} onClick={() => go('decisions')}>
        Clear filters
      </button>
    </form>
  );
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
