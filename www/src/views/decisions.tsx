import './decisions.css';
import { useMemo, useRef, useState } from 'preact/hooks';
import type { Decision } from '../api.ts';
import { Detail } from '../decisions/detail.tsx';
import { Filters, filtersOf } from '../decisions/filters.tsx';
import { List, rowId } from '../decisions/list.tsx';
import { go } from '../router.ts';

export function Decisions({ params }: { params: URLSearchParams }) {
  const filters = filtersOf(params);
  const key = JSON.stringify(filters);
  const open = params.get('open');
  const [listed, list] = useState<readonly Decision[]>([]);
  // What is open stays, also when newer ones push it out of the list.
  const opened = useRef<Decision | undefined>(undefined);
  opened.current = [...listed, opened.current].find((decision) => decision?.request_id === open);
  const close = () => {
    go('decisions', filters);
    // The list may have been hidden behind it.
    const focus = () => (document.getElementById(rowId(open ?? '')) ?? document.querySelector<HTMLElement>('.decision-list .scroll'))?.focus();
    requestAnimationFrame(() => requestAnimationFrame(focus));
  };
  return (
    <>
      <div class="view-head">
        <h1>Decisions</h1>
      </div>
      {/* Kept as it is, so that decisions that come take nothing away that is being typed. */}
      {useMemo(() => <Filters filters={filters} />, [key])}
      <div class={`decision-split ${open ? 'has-open' : ''}`}>
        <List key={key} filters={filters} open={open} onList={list} />
        {open && <Detail key={open} id={open} known={opened.current} onClose={close} />}
      </div>
    </>
  );
}
