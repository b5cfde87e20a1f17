// Shows the content of a rule file in readable form.
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { Empty, Loading, Problem } from '../components/async-states.tsx';
import { decibans } from '../format.ts';
import { loadError } from './drafts.ts';
import type { Comparison, Exemplar, Rule, Selection } from './rule-model.ts';

type Parsed = { text: string; rules: Rule[] } | { text: string; error: ApiError };

/** Parses a rule file. The parser is loaded on demand. */
async function parse(text: string): Promise<Parsed> {
  const parser = await import('./rule-model.ts').catch(() => null);
  if (!parser) return { text, error: loadError('the parser of rule files') };
  try {
    return { text, rules: parser.parseRules(text) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : error;
    const message = `the file cannot be parsed: ${reason}`;
    return { text, error: new ApiError(0, 'yaml', message, 'correct it in the editor') };
  }
}

export function useRules(text: string, isYaml: boolean): Parsed | null {
  const [parsed, setParsed] = useState<Parsed | null>(null);
  useEffect(() => {
    if (!isYaml) return;
    let isOutdated = false;
    void parse(text).then((result) => isOutdated || setParsed(result));
    return () => {
      isOutdated = true;
    };
  }, [text, isYaml]);
  return parsed;
}

export function RuleDetails({ path, text }: { path: string; text: string }) {
  const isYaml = !path.endsWith('.toml');
  const parsed = useRules(text, isYaml);
  if (!isYaml) return <PlainText path={path} text={text} />;
  if (!parsed) return <Loading lines={12} />;
  if ('error' in parsed) return <Problem error={parsed.error} />;
  if (!parsed.rules.length) {
    return <Empty>This file is empty. Write a rule in the editor, or discard the change.</Empty>;
  }
  return (
    <>
      {parsed.rules.map((rule, index) => (
        <RulePage key={index} rule={rule} />
      ))}
    </>
  );
}

function PlainText({ path, text }: { path: string; text: string }) {
  return (
    <div class="rule-page">
      <p class="note">
        {path === 'policy.toml'
          ? 'The policy: bands, actions, exemptions and limits.'
          : 'A list of clients, accounts or templates with a weight.'}
      </p>
      <pre class="rule-text" role="region" aria-label={`Text of ${path}`} tabIndex={0}>
        {text}
      </pre>
    </div>
  );
}

function describeWeight({ weight, level }: Rule): string {
  if (weight === '') return `from the level ${level}`;
  const number = Number(weight);
  const value = Number.isFinite(number) ? decibans(number) : weight;
  return `${value} (level ${level || 'not given'})`;
}

function RulePage({ rule }: { rule: Rule }) {
  return (
    <article class="rule-page">
      <h3 class="rule-title">{rule.title || 'Without a title'}</h3>
      <p>{rule.description}</p>
      <dl class="facts">
        <Fact name="Name" value={<code>{rule.name}</code>} />
        <Fact name="Status" value={rule.status} />
        <Fact name="Weight" value={describeWeight(rule)} />
        <Fact name="Tags" value={rule.tags.join(', ')} />
        <Fact name="Author" value={[rule.author, rule.date].filter(Boolean).join(', ')} />
        <Fact name="Id" value={<code>{rule.id}</code>} />
      </dl>
      {rule.selections.length > 0 && <Detection rule={rule} />}
      {rule.correlation.length > 0 && (
        <>
          <h4>Correlation</h4>
          <dl class="facts">
            {rule.correlation.map(([name, value]) => (
              <Fact key={name} name={name} value={value} />
            ))}
          </dl>
        </>
      )}
      <h4>False positives</h4>
      <TextList items={rule.falsePositives} />
      <h4>References</h4>
      <TextList items={rule.references} links />
      <h4>Exemplars</h4>
      <ul class="rule-exemplars">
        {rule.exemplars.map((exemplar, index) => (
          <ExemplarRow key={index} exemplar={exemplar} />
        ))}
      </ul>
    </article>
  );
}

const Fact = ({ name, value }: { name: string; value: ComponentChildren }) => (
  <>
    <dt>{name}</dt>
    <dd>{value || '–'}</dd>
  </>
);

function Detection({ rule }: { rule: Rule }) {
  return (
    <>
      <h4>Detection</h4>
      <p>
        Holds if <code>{rule.condition}</code>:
      </p>
      <dl class="rule-selections">
        {rule.selections.map((selection) => (
          <SelectionRow key={selection.name} selection={selection} />
        ))}
      </dl>
    </>
  );
}

function SelectionRow({ selection: { name, alternatives } }: { selection: Selection }) {
  return (
    <>
      <dt>
        <code>{name}</code>
      </dt>
      <dd>
        {alternatives.map((comparisons, index) => (
          <div key={index}>
            {index > 0 && <p class="note">or</p>}
            {comparisons.map((comparison, index) => (
              <div key={index}>
                {index > 0 && <p class="note">and</p>}
                <ComparisonText comparison={comparison} />
              </div>
            ))}
          </div>
        ))}
      </dd>
    </>
  );
}

function ComparisonText({ comparison: { field, relation, values } }: { comparison: Comparison }) {
  return (
    <>
      <code>{field}</code> {relation}
      <ul class="rule-values">
        {values.map((value, index) => (
          <li key={index}>
            <code>{value}</code>
          </li>
        ))}
      </ul>
    </>
  );
}

interface TextListProps {
  items: readonly string[];
  /** Shows web addresses as links. */
  links?: boolean;
}

export function TextList({ items, links = false }: TextListProps) {
  if (!items.length) return <p class="note">Not given.</p>;
  return (
    <ul>
      {items.map((text, index) => (
        <li key={index}>
          {links && /^https?:\/\//i.test(text) ? <ExternalLink url={text} /> : text}
        </li>
      ))}
    </ul>
  );
}

const ExternalLink = ({ url }: { url: string }) => (
  <a href={url} rel="noreferrer noopener" target="_blank">
    {url}
    <span class="visually-hidden"> (opens another tab)</span>
  </a>
);

function ExemplarRow({ exemplar: { name, expected, events } }: { exemplar: Exemplar }) {
  const isMatch = expected === 'match';
  const eventLists = events.map(({ offset, fields }, index) => (
    <dl key={index} class="rule-event">
      {offset && <Fact name="after" value={offset} />}
      {fields.map(([field, value]) => (
        <Fact key={field} name={field} value={value} />
      ))}
    </dl>
  ));
  return (
    <li>
      <p>
        <span class={`tag rule-${isMatch ? 'match' : 'no-match'}`}>
          {isMatch ? 'matches' : expected === 'innocent' ? 'innocent' : 'no match'}
        </span>{' '}
        {name}
      </p>
      {events.length <= 1 ? (
        eventLists
      ) : (
        <details>
          <summary>{events.length} events</summary>
          {eventLists}
        </details>
      )}
    </li>
  );
}
