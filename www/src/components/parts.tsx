// Small parts that all views share.
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { type Action, type Band, BANDS } from '../api.ts';
import { ago, brief, share } from '../format.ts';

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

/** Shares of bands side by side in one bar; its name says them in words. */
export function BandBar({ bands }: { bands: Partial<Record<Band, number>> }) {
  const own = BANDS.filter((band) => bands[band]);
  const total = own.reduce((sum, band) => sum + bands[band]!, 0);
  const words = own.map((band) => `${band} ${share(bands[band]!, total)}`).join(', ') || 'no requests';
  return (
    <span class="band-bar" role="img" aria-label={words} title={words}>
      {own.map((band) => (
        <span key={band} class={`fill-${band}`} style={{ width: `${(100 * bands[band]!) / total}%` }} />
      ))}
    </span>
  );
}

/** A digest, a hash: its first digits, all of it on hover. */
export const Hash = ({ value }: { value: string | null }) => (value ? <code title={value}>{brief(value)}</code> : <span class="note">–</span>);

/** A time in the zone of whoever looks, with UTC on hover; `at` in milliseconds since the epoch. `text` says it shorter. */
export function Time({ at, relative = false, text }: { at: number; relative?: boolean; text?: string }) {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return <>an unknown time</>;
  const local = date.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
  const utc = `${date.toISOString().replace('T', ' ').slice(0, 19)} UTC`;
  return (
    <time dateTime={date.toISOString()} title={relative || text ? `${local} · ${utc}` : utc}>
      {text ?? (relative ? ago(at / 1000) : local)}
    </time>
  );
}

/** A copy button, which says that it has; or that it may not, as on plain http, where there is no clipboard. */
export function Copy({ text, label = 'Copy' }: { text: string; label?: string }) {
  const [said, say] = useState<string>();
  useEffect(() => {
    if (!said) return;
    const timer = setTimeout(() => say(undefined), 4000);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say('Copied');
    } catch {
      say('Select and copy by hand');
    }
  };
  return (
    <button type="button" class="quiet" onClick={() => void copy()}>
      <span aria-live="polite">{said ?? label}</span>
    </button>
  );
}
