// What the filter makes of a request, live or from a link.
import { useState } from 'preact/hooks';
import type { Action } from '../api.ts';
import { ActionTag, BandTag, Copy, Hash, Panel } from '../components/parts.tsx';
import { Loading, Problem } from '../components/states.tsx';
import { Waterfall } from '../components/waterfall.tsx';
import type { Scored } from '../core/core.ts';
import { bytes, count } from '../format.ts';
import { link } from '../router.ts';
import { EXAMPLES } from './examples.ts';
import { InputError } from './problem.ts';
import type { Answered, Rules } from './scoring.ts';
import { encode, type Result } from './share.ts';

const ENFORCED: Record<Action, string> = {
  allow: 'The request is forwarded untouched.',
  tag: 'The request is forwarded with x-hedgerow-* headers, which tell the origin the score and the hits.',
  degrade: 'Log-probabilities, biases, surplus choices (n) and the like are removed from the body, and the rest is forwarded.',
  throttle: 'The client is told to come back later: 429',
  block: 'The client is refused: 403.',
};

/** What happens to a request under Enforce, in plain words. */
function enforced({ action, unscanned_bytes, unreadable }: NonNullable<Scored['decision']>, { retryAfter, failClosed }: Rules['enforce']): string {
  if (action === 'throttle') return `${ENFORCED.throttle}, with a Retry-After of ${count(retryAfter)} s.`;
  const isDoubtful = action === 'degrade' && (unscanned_bytes > 0 || unreadable.length > 0);
  return isDoubtful ? `${ENFORCED.degrade} A body that does not read cleanly cannot be degraded; it is ${failClosed ? 'refused: 403' : 'forwarded as it is'}.` : ENFORCED[action];
}

const UNREADABLE: Record<string, string> = {
  empty: 'there is no body',
  syntax: 'something is not JSON',
  truncated: 'it ends inside a value',
  encoding: 'its encoding is not read',
  inflate: 'it could not be decompressed within bounds',
  depth: 'it is nested deeper than is read',
  entries: 'it has more entries than are read',
  multipart: 'the parts of the upload were not found',
  duplicate: 'a key that counts once stands twice',
  search_budget: 'it is built to make searching slow, so not all patterns were tried',
};

interface Live {
  scored: Answered<unknown, Scored>;
  result: Result | null;
  rules: Rules | null;
  /** Nothing that can be read stands in the box. */
  idle: boolean;
  onHover: (name: string | null) => void;
  onPick: (name: string) => void;
  onExample: (text: string) => void;
}

export function ResultPanel({ scored, result, rules, idle, onHover, onPick, onExample }: Live) {
  if (idle) {
    return (
      <Panel title="Result">
        <p>Paste a request to see its score and what makes it, or start from an example:</p>
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
    return (
      <Panel title="Result">
        <Problem error={new InputError(`The filter cannot read this: ${scored.problem}.`, 'Look at how the request was read, and mend it.')} />
      </Panel>
    );
  }
  if (!result) return <NoCall />;
  const url = `${location.origin}${location.pathname}${link('playground', { result: encode(result) })}`;
  return (
    <Panel title="Result" end={<Copy text={url} label="Copy link without the text" />}>
      <Weighed result={result} onHover={onHover} onPick={onPick} />
      <Facts scored={scored.answer} rules={rules} />
    </Panel>
  );
}

function Examples({ onExample }: Pick<Live, 'onExample'>) {
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

function NoCall() {
  return (
    <Panel title="Result">
      <p>
        <strong>Not an LLM call.</strong> It passes unscored and uncounted.
      </p>
      <p class="note">Only POST requests to the known paths of LLM APIs are scored, such as /v1/chat/completions, /v1/responses, /v1/messages or …/models/NAME:generateContent. If it is one all the same, at a path of your own, choose its API under “Sent to”; the filter knows such paths by policy.toml.</p>
    </Panel>
  );
}

/** The waterfall. Which hit the pointer or the focus is on is told, so that its marks stand out. */
function Weighed({ result, onHover, onPick }: { result: Result } & Pick<Live, 'onHover' | 'onPick'>) {
  const hover = (event: Event) => onHover((event.target as Element).closest('button.link')?.textContent ?? null);
  return (
    <div class="weighed" onMouseOver={hover} onMouseLeave={() => onHover(null)} onFocusIn={hover} onFocusOut={() => onHover(null)}>
      <Waterfall {...result} onPick={onPick} />
      {!result.hits.length && <p class="note">No signature holds, so the score is the prior’s.</p>}
    </div>
  );
}

function Facts({ scored, rules }: { scored: Scored; rules: Rules }) {
  const own = scored.decision!;
  return (
    <dl class="facts result-facts">
      <dt>Action</dt>
      <dd>
        <ActionTag action={own.action} /> <span class="note">{own.mode === 'shadow' ? 'The policy is in Shadow: it is recorded only, and the request is forwarded.' : 'The policy is in Enforce: it is carried out.'}</span>
      </dd>
      <dt>{own.mode === 'shadow' ? 'What Enforce would do' : 'What Enforce does'}</dt>
      <dd>{enforced(own, rules.enforce)}</dd>
      <dt>Dialect, operation</dt>
      <dd>
        {own.dialect}, {own.operation}
      </dd>
      <dt>Body</dt>
      <dd>
        {bytes(own.body_bytes)}
        {own.unscanned_bytes > 0 && `, the last ${bytes(own.unscanned_bytes)} of it behind the scan window and not scored`}
      </dd>
      {own.entries !== 1 && (
        <>
          <dt>Requests in the upload</dt>
          <dd>{count(own.entries)}</dd>
        </>
      )}
      {own.unreadable.length > 0 && (
        <>
          <dt>Not read</dt>
          <dd>{own.unreadable.map((word) => UNREADABLE[word] ?? word).join('; ')}</dd>
        </>
      )}
      {own.exemption && (
        <>
          <dt>Exemption</dt>
          <dd>{own.exemption}</dd>
        </>
      )}
      {own.shadow_hits.length > 0 && (
        <>
          <dt>Experimental, without weight</dt>
          <dd>{own.shadow_hits.join(', ')}</dd>
        </>
      )}
      <dt>Rules</dt>
      <dd>
        <Hash value={own.ruleset} />
      </dd>
    </dl>
  );
}

/** A result from a link; null where the link is none of ours. */
export function SharedPanel({ result, shipped }: { result: Result | null; shipped: Rules | null }) {
  const [picked, pick] = useState(result?.picked ?? null);
  if (!result) {
    return (
      <Panel title="Shared result">
        <Problem error={new InputError('This link holds no result that can be read.', 'Ask for it anew, or paste the request yourself.')} />
      </Panel>
    );
  }
  const title = picked && shipped?.signatures.get(picked)?.title;
  return (
    <Panel title="Shared result" end={<a href={link('playground')}>Start anew</a>}>
      <p class="note shared-note">The text of the request was not shared, only what signatures made of it. Whoever made the link chose what stands in it.</p>
      <Waterfall {...result} onPick={pick} />
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
          <Hash value={result.digest} /> <span class="note">{shipped && (shipped.digest === result.digest ? 'the same as shipped with this console' : 'not those shipped with this console')}</span>
        </dd>
      </dl>
    </Panel>
  );
}
