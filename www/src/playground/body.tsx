// The body with what signatures found in it.
import { useEffect, useMemo, useRef } from 'preact/hooks';
import type { Evidence } from '../api.ts';
import { Panel } from '../components/parts.tsx';
import { count } from '../format.ts';
import { inText, type Part, type Span, windows } from './spans.ts';

interface Props {
  text: string;
  hits: readonly { name: string; evidence: Evidence[] }[];
  /** Fields whose evidence lies in the body. */
  textFields: ReadonlySet<string>;
  /** The signature that stands out. */
  lit: string | null;
  onPick: (name: string) => void;
}

export function BodyPanel({ text, hits, textFields, lit, onPick }: Props) {
  const spans = useMemo(() => {
    const own = hits.flatMap(({ name, evidence }) => evidence.filter(({ field }) => textFields.has(field)).map(({ start, end }): Span => ({ name, start, end })));
    return inText(text, own);
  }, [text, hits, textFields]);
  const shown = useMemo(() => windows(text, spans), [text, spans]);
  const elsewhere = hits.flatMap(({ name, evidence }) => {
    const fields = [...new Set(evidence.filter(({ field }) => !textFields.has(field)).map(({ field }) => field))];
    return fields.length ? [{ name, fields }] : [];
  });
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => reveal(box.current), [lit]);
  const marked = spans.length ? `${spans.length === 1 ? '1 match' : `${count(spans.length)} matches`} marked. Press a mark to choose its signature.` : 'No signature found anything in the text.';
  return (
    <Panel title="Body" note={text ? marked : undefined}>
      {text ? (
        <div class="body-text" tabIndex={0} role="region" aria-label="Body with matches" ref={box}>
          {shown.map(({ from, to, parts }, at) => (
            <>
              <Gap from={at ? shown[at - 1]!.to : 0} to={from} />
              {parts.map((part) => (
                <Mark key={part.from} text={text.slice(part.from, part.to)} part={part} lit={lit} onPick={onPick} />
              ))}
              {at === shown.length - 1 && <Gap from={to} to={text.length} />}
            </>
          ))}
        </div>
      ) : (
        <p class="note">The request has no body.</p>
      )}
      {elsewhere.length > 0 && <Elsewhere found={elsewhere} lit={lit} />}
    </Panel>
  );
}

const Gap = ({ from, to }: { from: number; to: number }) => (to > from ? <span class="gap">{` ${count(to - from)} characters not shown `}</span> : null);

function Mark({ text, part: { names }, lit, onPick }: { text: string; part: Part; lit: string | null; onPick: (name: string) => void }) {
  if (!names.length) return <>{text}</>;
  const isLit = lit !== null && names.includes(lit);
  // Where several meet, each press goes on to the next.
  const pick = () => onPick(names[(names.indexOf(lit ?? '') + 1) % names.length]!);
  const press = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    pick();
  };
  return (
    <mark class={isLit ? 'lit' : ''} role="button" tabIndex={0} aria-pressed={isLit} title={names.join(', ')} onClick={pick} onKeyDown={press}>
      {text}
    </mark>
  );
}

function Elsewhere({ found, lit }: { found: { name: string; fields: string[] }[]; lit: string | null }) {
  return (
    <div class="elsewhere">
      <h3>Not in the text</h3>
      <ul>
        {found.map(({ name, fields }) => (
          <li key={name} class={name === lit ? 'lit' : ''}>
            <span>{name}</span> <span class="note">by {fields.join(', ')}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** Brings the first mark that stands out into view, without moving the page. */
function reveal(box: HTMLElement | null) {
  const mark = box?.querySelector<HTMLElement>('mark.lit');
  if (!box || !mark || mark === document.activeElement) return;
  const [outer, inner] = [box.getBoundingClientRect(), mark.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top - outer.height / 3;
}
