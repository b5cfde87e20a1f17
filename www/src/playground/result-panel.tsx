// The result of scoring a request, live or from a link.
import { useState } from 'preact/hooks';
import type { Action } from '../api.ts';
import { Loading, Problem } from '../components/async-states.tsx';
import { ActionTag, BandTag, Copy, Hash, Panel } from '../components/ui.tsx';
import { Waterfall } from '../components/waterfall.tsx';
import type { Scored } from '../core/core.ts';
import { bytes, count } from '../format.ts';
import { REASONS } from '../overview/unscored.tsx';
import { addressOf, link } from '../router.ts';
import { EXAMPLES } from './examples.ts';
import { InputError } from './input-error.ts';
import { encode, type Result } from './share-link.ts';
import type { QueryResult, Rules } from './use-scoring.ts';

type Decision = NonNullable<Scored['decision']>;

/** Effects of the actions in enforce mode. */
const EFFECTS: Record<Action, string> = {
  allow: 'The request is forwarded unchanged.',
  tag: 'The request is forwarded with x-hedgerow-* headers, which contain the score and the hits.',
  degrade:
    'Log-probabilities, biases, extra choices (n) and similar members are removed from the ' +
    'body, and the rest is forwarded.',
  throttle: 'The client receives 429',
  block: 'The client receives 403.',
};

/**
 * Response status by reason, for requests that are refused because they were not completely scored.
 */
const REFUSALS: Record<string, number> = {
  late: 408,
  crowded: 503,
  window: 413,
  costly: 413,
  encoding: 415,
  opaque: 415,
  attachment: 415,
};

/** Describes the effect of a decision in enforce mode. */
function describeEffect(decision: Decision, { retryAfter, failClosed }: Rules['enforce']): string {
  const { action, unscanned_bytes, unreadable, incomplete } = decision;
  if (incomplete) {
    return action === 'block'
      ? `The client receives ${REFUSALS[incomplete] ?? 403}: the request was not scored whole.`
      : `${EFFECTS[action]} The reason is that the request was not scored whole.`;
  }
  if (action === 'throttle') return `${EFFECTS.throttle} with Retry-After: ${retryAfter}.`;
  const isEditable = unscanned_bytes === 0 && unreadable.length === 0;
  if (action !== 'degrade' || isEditable) return EFFECTS[action];
  const fallback = failClosed ? 'refused with 403' : 'forwarded unchanged';
  return (
    `${EFFECTS.degrade} If the body cannot be edited, because it is too long or unreadable, ` +
    `the request is ${fallback}.`
  );
}

/** Descriptions of the values of `unreadable`. */
const UNREADABLE: Record<string, string> = {
  empty: 'there is no body',
  syntax: 'a part is not JSON',
  truncated: 'the body ends inside a value',
  encoding: 'the encoding is not supported',
  inflate: 'the body could not be decompressed within the limits',
  depth: 'the nesting is too deep',
  entries: 'the batch has too many requests',
  multipart: 'the parts of the upload were not found',
  duplicate: 'a key that must be unique is repeated',
  costly: 'reading the text is too expensive, so not all of it was searched',
  opaque: 'a part is in a binary format',
};

interface Props {
  scored: QueryResult<unknown, Scored>;
  result: Result | null;
  rules: Rules | null;
  /** Whether there is no request to score. */
  isIdle: boolean;
  onHover: (name: string | null) => void;
  onPick: (name: string) => void;
  onExample: (text: string) => void;
}

export function ResultPanel(props: Props) {
  const { scored, result, rules, isIdle, onHover, onPick, onExample } = props;
  if (isIdle) {
    return (
      <Panel title="Result">
        <p>Paste a request to see its score and the evidence, or start from an example:</p>
        <Examples onExample={onExample} />
      </Panel>
    );
  }
  if (!scored || !rules) {
    return (
      <Panel title="Result">
        <Loading lines={6} />
      </Panel>
    );
  }
  if ('problem' in scored) {
    const message = `The filter cannot parse the request: ${scored.problem}.`;
    const remedy = 'Check the parsed request, and correct it.';
    return (
      <Panel title="Result">
        <Problem error={new InputError(message, remedy)} />
      </Panel>
    );
  }
  if (!result) return <NotScored />;
  const url = addressOf(link('playground', { result: encode(result) }));
  return (
    <Panel title="Result" end={<Copy text={url} label="Copy link without the text" />}>
      <ScoreChart result={result} onHover={onHover} onPick={onPick} />
      <Facts decision={scored.answer.decision!} rules={rules} />
    </Panel>
  );
}

function Examples({ onExample }: Pick<Props, 'onExample'>) {
  return (
    <ul class="examples">
      {EXAMPLES.map(({ title, why, text }) => (
        <li key={title}>
          <button type="button" class="link" onClick={() => onExample(text)}>
            {title}
          </button>
          <p class="note">{why}</p>
        </li>
      ))}
    </ul>
  );
}

function NotScored() {
  return (
    <Panel title="Result">
      <p>
        <strong>Not an LLM call.</strong> The request is forwarded without being scored or counted.
      </p>
      <p class="note">
        Only POST requests to known paths of LLM APIs are scored, such as /v1/chat/completions,
        /v1/responses, /v1/messages or …/models/NAME:generateContent. If this request is an LLM call
        at another path, choose its API under “API”, and add the path to policy.toml.
      </p>
    </Panel>
  );
}

/**
 * The waterfall chart. Reports the hit that has the pointer or the focus, so that its marks are
 * highlighted.
 */
function ScoreChart({
  result,
  onHover,
  onPick,
}: { result: Result } & Pick<Props, 'onHover' | 'onPick'>) {
  const hover = (event: Event) =>
    onHover((event.target as Element).closest('button.link')?.textContent ?? null);
  const leave = () => onHover(null);
  return (
    <div onMouseOver={hover} onMouseLeave={leave} onFocusIn={hover} onFocusOut={leave}>
      <Waterfall {...result} onPick={onPick} />
      {!result.hits.length && (
        <p class="note">No signature holds, so the score is that of the prior.</p>
      )}
    </div>
  );
}

function Facts({ decision, rules }: { decision: Decision; rules: Rules }) {
  const { unscanned_bytes, entries, unreadable, unscored, exemption, shadow_hits } = decision;
  const isShadow = decision.mode === 'shadow';
  return (
    <dl class="facts result-facts">
      <dt>Action</dt>
      <dd>
        <ActionTag action={decision.action} />{' '}
        <span class="note">
          {isShadow
            ? 'The policy is in shadow mode: the action is only recorded.'
            : 'The policy is in enforce mode: the action is carried out.'}
        </span>
      </dd>
      <dt>{isShadow ? 'Effect in enforce mode' : 'Effect'}</dt>
      <dd>{describeEffect(decision, rules.enforce)}</dd>
      <dt>Dialect, operation</dt>
      <dd>
        {decision.dialect}, {decision.operation}
      </dd>
      <dt>Body</dt>
      <dd>
        {bytes(decision.body_bytes)}
        {unscanned_bytes > 0 &&
          `, of which the last ${bytes(unscanned_bytes)} exceed the limit and are not read`}
      </dd>
      {entries !== 1 && (
        <>
          <dt>Requests in the batch</dt>
          <dd>{count(entries)}</dd>
        </>
      )}
      {unscored.length > 0 && (
        <>
          <dt>Not scored whole</dt>
          <dd>{unscored.map((reason) => REASONS[reason] ?? reason).join('; ')}</dd>
        </>
      )}
      {unreadable.length > 0 && (
        <>
          <dt>Unreadable</dt>
          <dd>{unreadable.map((reason) => UNREADABLE[reason] ?? reason).join('; ')}</dd>
        </>
      )}
      {exemption && (
        <>
          <dt>Exemption</dt>
          <dd>{exemption}</dd>
        </>
      )}
      {shadow_hits.length > 0 && (
        <>
          <dt>Experimental, without weight</dt>
          <dd>{shadow_hits.join(', ')}</dd>
        </>
      )}
      <dt>Rules</dt>
      <dd>
        <Hash value={decision.ruleset} />
      </dd>
    </dl>
  );
}

interface SharedProps {
  /** Null if the link is invalid. */
  result: Result | null;
  shipped: Rules | null;
}

/** A result from a link. */
export function SharedPanel({ result, shipped }: SharedProps) {
  const [picked, setPicked] = useState(result?.picked ?? null);
  if (!result) {
    const error = new InputError(
      'The link does not contain a valid result.',
      'Ask for a new link, or paste the request.',
    );
    return (
      <Panel title="Shared result">
        <Problem error={error} />
      </Panel>
    );
  }
  const title = picked && shipped?.signatures.get(picked)?.title;
  const isShipped = shipped?.digest === result.digest;
  return (
    <Panel title="Shared result" end={<a href={link('playground')}>Close</a>}>
      <p class="note shared-note">
        The link contains the weights of signatures, and no text of the request. The author of the
        link can choose its content, so do not rely on it.
      </p>
      <Waterfall {...result} onPick={setPicked} />
      <dl class="facts result-facts">
        <dt>Band, action</dt>
        <dd class="row">
          <BandTag band={result.band} /> <ActionTag action={result.action} />
        </dd>
        {picked && (
          <>
            <dt>Selected</dt>
            <dd>
              {picked}
              {title && <span class="note"> {title}</span>}
            </dd>
          </>
        )}
        <dt>Rules</dt>
        <dd>
          <Hash value={result.digest} />{' '}
          <span class="note">
            {shipped && (isShipped ? 'the shipped rules' : 'not the shipped rules')}
          </span>
        </dd>
      </dl>
    </Panel>
  );
}
