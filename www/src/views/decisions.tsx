import './decisions.css';
import { useState } from 'preact/hooks';
import type { Decision } from '../api.ts';
import { Detail } from '../decisions/detail.tsx';
import { Filters, filtersOf } from '../decisions/filters.tsx';
import { List, rowId } from '../decisions/list.tsx';
import { go } from '../router.ts';

export function Decisions({ params }: { params: URLSearchParams }) {
  const filters = filtersOf(params);
  const open = params.get('open');
  const [listed, list] = useState<readonly Decision[]>([]);
  const close = () => {
    go('decisions', filters);
    // The list may have been hidden behind it.
    requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById(rowId(open ?? ''))?.focus()));
  };
  return (
    <>
      <div class="view-head">
        <h1>Decisions</h1>
      </div>
      <Filters params={params} />
      <div class={`decision-split ${open ? 'has-open' : ''}`}>
        <List key={JSON.stringify(filters)} filters={filters} open={open} onList={list} />
        {open && <Detail key={open} id={open} known={listed.find(({ request_id }) => request_id === open)} onClose={close} />}
      </div>
    </>
  );
}
