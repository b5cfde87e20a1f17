// What a rule file says, as a page to read.
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { Empty, Loading, Problem } from '../components/states.tsx';
import { decibans } from '../format.ts';
import type { Rule, Sample, Selection } from './document.ts';
import { notLoaded } from './store.ts';

type Read = { text: string; rules: Rule[] } | { text: string; error: ApiError };

/** The reader comes when it is needed first. */
async function readRules(text: string): Promise<Read> {
  const document = await import('./document.ts').catch(() => null);
  if (!document) return { text, error: notLoaded('the reader of rule files') };
  try {
    return { text, rules: document.read(text) };
  } catch (error) {
    return { text, error: new ApiError(0, 'yaml', `this file cannot be read: ${error instanceof Error ? error.message : error}`, 'mend it in the editor') };
  }
}

function useRules(text: string, isYaml: boolean): Read | null {
  const [read, set] = useState<Read | null>(null);
  useEffect(() => {
    if (!isYaml) return;
    let outdated = false;
    void readRules(text).then((read) => outdated || set(read));
    return () => {
      outdated = true;
    };
  }, [text, isYaml]);
  return read;
}

export function About({ path, text }: { path: string; text: string }) {
  const isYaml = !path.endsWith('.toml');
  const read = useRules(text, isYaml);
  if (!isYaml) return <Plain path={path} text={text} />;
  if (!read) return <Loading lines={12} />;
  if ('error' in read) return <Problem error={read.error} />;
  if (!read.rules.length) return <Empty>This file is empty. Write a rule in the editor, or discard the change.</Empty>;
  return (
    <>
      {read.rules.map((rule, place) => (
        <RulePage key={place} rule={rule} />
      ))}
    </>
  );
}

function Plain({ path, text }: { path: string; text: string }) {
  return (
    <div class="rule-page">
      <p class="note">{path === 'policy.toml' ? 'What a score means, and what is done about it.' : 'A list of clients, accounts or templates that weigh by themselves.'}</p>
      <pre class="rule-text" role="region" aria-label={`Text of ${path}`} tabIndex={0}>
        {text}
      </pre>
    </div>
  );
}

function RulePage({ rule }: { rule: Rule }) {
  const weight = Number(rule.weight);
  return (
    <article class="rule-page">
      <h3 class="rule-title">{rule.title || 'Without a title'}</h3>
      <p>{rule.description}</p>
      <dl class="facts">
        <Fact name="Name" value={<code>{rule.name}</code>} />
        <Fact name="Status" value={rule.status} />
        <Fact name="Weight" value={rule.weight === '' ? `by its level, ${rule.level}` : `${Number.isFinite(weight) ? decibans(weight) : rule.weight} (level ${rule.level || 'not given'})`} />
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
      <List of={rule.falsePositives} />
      <h4>References</h4>
      <List of={rule.references} links />
      <h4>Exemplars</h4>
      <ul class="rule-samples">
        {rule.samples.map((sample, place) => (
          <SampleRow key={place} sample={sample} />
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
        Holds where <code>{rule.condition}</code>:
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
        {alternatives.map((tests, place) => (
          <div key={place}>
            {place > 0 && <p class="note">or</p>}
            {tests.map(({ field, how, values }, place) => (
              <div key={place}>
                {place > 0 && <p class="note">and</p>}
                <code>{field}</code> {how}
                <ul class="rule-values">
                  {values.map((value, place) => (
                    <li key={place}>
                      <code>{value}</code>
                    </li>
                  ))}
                </ul>
              </div>
            ))}
          </div>
        ))}
      </dd>
    </>
  );
}

function List({ of, links = false }: { of: readonly string[]; links?: boolean }) {
  if (!of.length) return <p class="note">None are given.</p>;
  return (
    <ul>
      {of.map((text, place) => (
        <li key={place}>{links && /^https?:\/\//i.test(text) ? <Outside url={text} /> : text}</li>
      ))}
    </ul>
  );
}

const Outside = ({ url }: { url: string }) => (
  <a href={url} rel="noreferrer noopener" target="_blank">
    {url}
    <span class="visually-hidden"> (opens another tab)</span>
  </a>
);

function SampleRow({ sample: { name, expected, events } }: { sample: Sample }) {
  const all = events.map(({ offset, fields }, place) => (
    <dl key={place} class="rule-event">
      {offset && <Fact name="after" value={offset} />}
      {fields.map(([field, value]) => (
        <Fact key={field} name={field} value={value} />
      ))}
    </dl>
  ));
  return (
    <li>
      <p>
        <span class={`tag rule-${expected === 'match' ? 'match' : 'near'}`}>{expected === 'match' ? 'matches' : 'no match'}</span> {name}
      </p>
      {events.length <= 1 ? (
        all
      ) : (
        <details>
          <summary>{events.length} events</summary>
          {all}
        </details>
      )}
    </li>
  );
}
