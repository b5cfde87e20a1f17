import './decisions.css';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { DecisionRecord } from '../api.ts';
import { ShortcutsDialog, useShortcuts } from '../components/shortcuts.tsx';
import { Copy } from '../components/ui.tsx';
import { minutesAgo, parseMinutes } from '../range.ts';
import { addressOf, link, STEP } from '../router.ts';
import { useUtc } from '../time.ts';
import { Detail } from './detail.tsx';
import { Filters, filtersOf, Suggestions, withoutRange } from './filters.tsx';
import { useKnown } from './known.ts';
import { List, rowId } from './list.tsx';

const KEYS = [
  ['j', 'Open the next decision of the list'],
  ['k', 'Open the previous decision of the list'],
  ['Esc', 'Close the decision'],
  ['?', 'Show these shortcuts'],
] as const;

export function Decisions({ params }: { params: URLSearchParams }) {
  const since = useRangeStart(params);
  const filters = { ...filtersOf(params), ...since };
  const key = JSON.stringify(filters);
  const utc = useUtc();
  const isWide = useMedia('(min-width: 900px)');
  const openId = params.get('open');
  const [listed, setListed] = useState<readonly DecisionRecord[] | null>(null);
  const [isTyping, setIsTyping] = useState(false);
  const [helps, setHelps] = useState(false);
  const known = useKnown(isTyping || (listed?.length === 0 && key !== '{}'));
  const knownRef = useRef(known);
  knownRef.current = known;
  // Keeps the open decision, even if newer decisions displace it from the list.
  const opened = useRef<DecisionRecord | undefined>(undefined);
  const all = [...(listed ?? []), opened.current];
  opened.current = all.find((decision) => decision?.request_id === openId);
  const closedId = useRef<string | null>(null);
  const close = () => {
    closedId.current = openId;
    location.hash = link('decisions', withoutRange(filters));
  };
  /** Opens the decision `steps` rows below the open one; the first one if none is open. */
  const step = (steps: number) => {
    const at = listed?.findIndex(({ request_id }) => request_id === openId) ?? -1;
    const next = listed?.[at < 0 ? 0 : at + steps];
    if (!next) return;
    location.hash = link('decisions', { ...withoutRange(filters), open: next.request_id });
    document.getElementById(rowId(next.request_id))?.scrollIntoView({ block: 'nearest' });
  };
  useShortcuts({
    j: () => step(1),
    k: () => step(-1),
    Escape: () => openId && close(),
    '?': () => setHelps(true),
  });
  // Focuses the row after closing, because the list is hidden until then on narrow screens.
  useEffect(() => {
    if (openId || !closedId.current) return;
    const row = document.getElementById(rowId(closedId.current));
    (row ?? document.querySelector<HTMLElement>('.decision-list .scroll'))?.focus();
    closedId.current = null;
  }, [openId]);
  return (
    <>
      <div class="view-head">
        <h1>Decisions</h1>
        <span class="end">
          <Copy text={addressOf(link('decisions', filters))} label="Copy link to this list" />
          <button type="button" class="quiet" onClick={() => setHelps(true)}>
            Shortcuts
          </button>
        </span>
      </div>
      {/* Memoised, so that new decisions do not reset the input while the user types. */}
      {useMemo(
        () => (
          <details class="filter-box" open={isWide}>
            <summary>Filters: {Object.keys(filters).join(', ') || 'none'}</summary>
            <Filters filters={filters} known={knownRef} onFocus={() => setIsTyping(true)} />
          </details>
        ),
        [key, utc, isWide],
      )}
      <div class={`decision-split ${openId ? 'has-open' : ''}`}>
        <List key={key} filters={filters} known={known} openId={openId} onList={setListed} />
        {openId && (
          <Detail key={openId} id={openId} known={opened.current} onStep={step} onClose={close} />
        )}
      </div>
      <Suggestions known={known} />
      {helps && <ShortcutsDialog keys={KEYS} onClose={() => setHelps(false)} />}
    </>
  );
}

/**
 * Returns the filter for a range of the last minutes, which another view has left in the address.
 * The start stays the same, so that the list does not change while the user reads.
 */
function useRangeStart(params: URLSearchParams): { since?: string } {
  const minutes = parseMinutes(params);
  const isFixed = ['since', 'until', STEP].some((name) => params.has(name));
  return useMemo(
    () => (minutes && !isFixed ? { since: String(minutesAgo(minutes)) } : {}),
    [minutes, isFixed],
  );
}

/** Returns whether a media query holds, and renders again when that changes. */
function useMedia(query: string): boolean {
  const [media] = useState(() => matchMedia(query));
  const [matches, setMatches] = useState(media.matches);
  useEffect(() => {
    const update = () => setMatches(media.matches);
    media.addEventListener('change', update);
    return () => media.removeEventListener('change', update);
  }, []);
  return matches;
}
