import './decisions.css';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { DecisionRecord } from '../api.ts';
import { navigate } from '../router.ts';
import { Detail } from './detail.tsx';
import { Filters, filtersOf } from './filters.tsx';
import { List, rowId } from './list.tsx';

export function Decisions({ params }: { params: URLSearchParams }) {
  const filters = filtersOf(params);
  const key = JSON.stringify(filters);
  const openId = params.get('open');
  const [listed, setListed] = useState<readonly DecisionRecord[]>([]);
  // Keeps the open decision, even if newer decisions displace it from the list.
  const opened = useRef<DecisionRecord | undefined>(undefined);
  opened.current = [...listed, opened.current].find((decision) => decision?.request_id === openId);
  const closedId = useRef<string | null>(null);
  const close = () => {
    closedId.current = openId;
    navigate('decisions', filters);
  };
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
      </div>
      {/* Memoised, so that new decisions do not reset the input while the user types. */}
      {useMemo(
        () => (
          <Filters filters={filters} />
        ),
        [key],
      )}
      <div class={`decision-split ${openId ? 'has-open' : ''}`}>
        <List key={key} filters={filters} openId={openId} onList={setListed} />
        {openId && <Detail key={openId} id={openId} known={opened.current} onClose={close} />}
      </div>
    </>
  );
}
