// Small components that all views share.
import { type ComponentChildren, Fragment } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { type Action, type Band, BANDS } from '../api.ts';
import { ago, brief, share } from '../format.ts';
import { formatZoned, type Precision, useUtc } from '../time.ts';

interface PanelProps {
  title: string;
  note?: ComponentChildren;
  /** Controls at the end of the title bar. */
  end?: ComponentChildren;
  children: ComponentChildren;
  class?: string;
}

export function Panel({ title, note, end, children, class: name = '' }: PanelProps) {
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

export const BandTag = ({ band }: { band: Band | null }) => (
  <span class={`tag band-${band ?? 'none'}`}>{band ?? 'unscored'}</span>
);

export const ActionTag = ({ action }: { action: Action }) => (
  <span class={`tag action-${action}`}>{action}</span>
);

/** A bar with the share of each band. Its accessible name lists the shares. */
export function BandBar({ bands }: { bands: Partial<Record<Band, number>> }) {
  const present = BANDS.filter((band) => bands[band]);
  const total = present.reduce((sum, band) => sum + bands[band]!, 0);
  const shares = present.map((band) => `${band} ${share(bands[band]!, total)}`);
  const label = shares.join(', ') || 'no requests';
  return (
    <span class="band-bar" role="img" aria-label={label} title={label}>
      {present.map((band) => (
        <span
          key={band}
          class={`fill-${band}`}
          style={{ width: `${(100 * bands[band]!) / total}%` }}
        />
      ))}
    </span>
  );
}

/** Shows the first digits of a digest or hash, and all digits on hover. */
export const Hash = ({ value }: { value: string | null }) =>
  value ? <code title={value}>{brief(value)}</code> : <span class="note">–</span>;

interface TimeProps {
  /** The time to show, in milliseconds since the epoch. */
  at: number;
  relative?: boolean;
  /** By default, to the second. Milliseconds distinguish the rows of a list. */
  precision?: Precision;
}

/** Shows a time with its zone, or relative to now. On hover, shows it also in the other zone. */
export function Time({ at, relative = false, precision }: TimeProps) {
  const utc = useUtc();
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return <>an unknown time</>;
  const exact = (utc: boolean) => formatZoned(at, 'millisecond', utc);
  return (
    <time
      dateTime={date.toISOString()}
      title={relative ? `${exact(false)} · ${exact(true)}` : exact(!utc)}
    >
      {relative ? ago(at / 1000) : formatZoned(at, precision, utc)}
    </time>
  );
}

/** A name that can break after its underscores. */
export const Name = ({ children }: { children: string }) => (
  <>
    {children.split(/(?<=_)/).map((part, index) => (
      <Fragment key={index}>
        {index > 0 && <wbr />}
        {part}
      </Fragment>
    ))}
  </>
);

/**
 * A copy button. It reports success, or that the clipboard is not available, which is the case on
 * plain HTTP.
 */
export function Copy({ text, label = 'Copy' }: { text: string; label?: string }) {
  const [result, setResult] = useState<string>();
  useEffect(() => {
    if (!result) return;
    const timer = setTimeout(() => setResult(undefined), 4000);
    return () => clearTimeout(timer);
  }, [result]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setResult('Copied');
    } catch {
      setResult('Select and copy by hand');
    }
  };
  return (
    <button type="button" class="quiet" onClick={() => void copy()}>
      <span aria-live="polite">{result ?? label}</span>
    </button>
  );
}
