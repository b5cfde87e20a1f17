// Small parts that all views share.
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { Action, Band } from '../api.ts';
import { ago, brief } from '../format.ts';

export function Panel({ title, note, end, children, class: name = '' }: { title: string; note?: ComponentChildren; end?: ComponentChildren; children: ComponentChildren; class?: string }) {
  return (
    <section class={`panel ${name}`} aria-label={title}>
      <div class="panel-head">
        <h2>{title}</h2>
        {note && <span class="note">{note}</span>}
        {end && <span class="panel-end">{end}</span>}
      </div>
      {children}
    </section>
  );
}

export const BandTag = ({ band }: { band: Band | null }) => <span class={`tag band-${band ?? 'none'}`}>{band ?? 'unscored'}</span>;
export const ActionTag = ({ action }: { action: Action }) => <span class={`tag action-${action}`}>{action}</span>;

/** A digest, a hash: its first digits, all of it on hover. */
export const Hash = ({ value }: { value: string | null }) => (value ? <code title={value}>{brief(value)}</code> : <span class="note">–</span>);

/** A time in the zone of whoever looks, with UTC on hover; `at` in milliseconds since the epoch. */
export function Time({ at, relative = false }: { at: number; relative?: boolean }) {
  const date = new Date(at);
  const local = date.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
  const utc = `${date.toISOString().replace('T', ' ').slice(0, 19)} UTC`;
  return (
    <time dateTime={date.toISOString()} title={relative ? `${local} · ${utc}` : utc}>
      {relative ? ago(at / 1000) : local}
    </time>
  );
}

/** A copy button, which says that it has. */
export function Copy({ text, label = 'Copy' }: { text: string; label?: string }) {
  const [done, set] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => set(false), 2000);
    return () => clearTimeout(timer);
  }, [done]);
  return (
    <button type="button" class="quiet" onClick={() => void navigator.clipboard.writeText(text).then(() => set(true))}>
      <span aria-live="polite">{done ? 'Copied' : label}</span>
    </button>
  );
}
