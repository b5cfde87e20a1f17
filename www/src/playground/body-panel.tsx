// The body of the request, in which the roles of passages and evidence of signatures are marked.
import { useEffect, useMemo, useRef } from 'preact/hooks';
import type { Evidence } from '../api.ts';
import { Panel } from '../components/ui.tsx';
import type { Passage } from '../core/core.ts';
import { count } from '../format.ts';
import {
  type Part,
  type Span,
  splitStretches,
  type Stretch,
  toTextSpans,
  windows,
} from './spans.ts';
import { PassageLegend, PassageText } from './passages.tsx';

interface Props {
  text: string;
  hits: readonly { name: string; evidence: Evidence[] }[];
  passages: readonly Passage[];
  /** Fields whose evidence is in the body. */
  textFields: ReadonlySet<string>;
  /** The signature that is highlighted. */
  highlighted: string | null;
  onPick: (name: string) => void;
}

export function BodyPanel({ text, hits, passages, textFields, highlighted, onPick }: Props) {
  const spans = useMemo(() => {
    const inBody = hits.flatMap(({ name, evidence }) =>
      evidence
        .filter(({ field }) => textFields.has(field))
        .map(({ start, end }): Span => ({ name, start, end })),
    );
    return toTextSpans(text, inBody);
  }, [text, hits, textFields]);
  const passageSpans = useMemo(() => toTextSpans(text, passages), [text, passages]);
  const shown = useMemo(
    () =>
      windows(text, spans).map(({ from, to, parts }) => ({
        from,
        to,
        stretches: splitStretches(parts, passageSpans),
      })),
    [text, spans, passageSpans],
  );
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => scrollToHighlight(box.current), [highlighted]);
  const otherHits = hits.flatMap(({ name, evidence }) => {
    const other = evidence.filter(({ field }) => !textFields.has(field));
    const fields = [...new Set(other.map(({ field }) => field))];
    return fields.length ? [{ name, fields }] : [];
  });
  return (
    <Panel title="Body" note={text ? summary(spans.length) : undefined}>
      {text ? (
        <div class="body-text" tabIndex={0} role="region" aria-label="Body with matches" ref={box}>
          {shown.map(({ from, to, stretches }, index) => (
            <>
              <Gap from={index ? shown[index - 1]!.to : 0} to={from} />
              {stretches.map((stretch) => (
                <Parts
                  key={stretch.parts[0]!.from}
                  stretch={stretch}
                  text={text}
                  highlighted={highlighted}
                  onPick={onPick}
                />
              ))}
              {index === shown.length - 1 && <Gap from={to} to={text.length} />}
            </>
          ))}
        </div>
      ) : (
        <p class="note">The request has no body.</p>
      )}
      <PassageLegend passages={passages} />
      {otherHits.length > 0 && <OtherHits hits={otherHits} highlighted={highlighted} />}
    </Panel>
  );
}

function summary(matches: number): string {
  if (!matches) return 'No signature matched text.';
  const marked = matches === 1 ? '1 match is marked' : `${count(matches)} matches are marked`;
  return `${marked}. Press a mark to select its signature.`;
}

const Gap = ({ from, to }: { from: number; to: number }) =>
  to > from ? <span class="gap">{` ${count(to - from)} characters not shown `}</span> : null;

interface PartsProps extends Pick<Props, 'text' | 'highlighted' | 'onPick'> {
  stretch: Stretch<Passage>;
}

/** The text of a stretch, with its marks, in the style of its passage. */
function Parts({ stretch: { passage, parts }, text, ...rest }: PartsProps) {
  const marks = parts.map((part) => (
    <Mark key={part.from} text={text.slice(part.from, part.to)} part={part} {...rest} />
  ));
  if (!passage) return <>{marks}</>;
  return <PassageText passage={passage}>{marks}</PassageText>;
}

interface MarkProps extends Pick<Props, 'highlighted' | 'onPick'> {
  text: string;
  part: Part;
}

function Mark({ text, part: { names }, highlighted, onPick }: MarkProps) {
  if (!names.length) return <>{text}</>;
  const isHighlighted = highlighted !== null && names.includes(highlighted);
  // If several signatures match this part, each click selects the next signature.
  const pick = () => onPick(names[(names.indexOf(highlighted ?? '') + 1) % names.length]!);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    pick();
  };
  return (
    <mark
      class={isHighlighted ? 'highlighted' : ''}
      role="button"
      tabIndex={0}
      aria-pressed={isHighlighted}
      title={names.join(', ')}
      onClick={pick}
      onKeyDown={onKeyDown}
    >
      {text}
    </mark>
  );
}

interface OtherHitsProps {
  hits: { name: string; fields: string[] }[];
  highlighted: string | null;
}

/** Hits whose evidence is not in the body, such as evidence in headers. */
function OtherHits({ hits, highlighted }: OtherHitsProps) {
  return (
    <div class="other-hits">
      <h3>Not in the text</h3>
      <ul>
        {hits.map(({ name, fields }) => (
          <li key={name} class={name === highlighted ? 'highlighted' : ''}>
            <span>{name}</span> <span class="note">in {fields.join(', ')}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** Scrolls the box, not the page, to the first highlighted mark. */
function scrollToHighlight(box: HTMLElement | null) {
  const mark = box?.querySelector<HTMLElement>('mark.highlighted');
  if (!box || !mark || mark === document.activeElement) return;
  const outer = box.getBoundingClientRect();
  const inner = mark.getBoundingClientRect();
  if (inner.top < outer.top || inner.bottom > outer.bottom) {
    box.scrollTop += inner.top - outer.top - outer.height / 3;
  }
}
