// A text about a decision for the customer whose request it was. It has nothing that helps to evade
// detection: no signatures, terms, weights, scores or limits.
import type { DecisionRecord } from '../api.ts';

/**
 * The kind of behaviour by family of signatures. Families that describe the sender or an attempt to
 * hide something are left out, because they would show what to change.
 */
const KINDS: Readonly<Record<string, string>> = {
  synthesis: 'Requests for records that look like training data for another model',
  elicitation: 'Requests for reasoning in a form that trains other models',
  grading: 'Requests for grades or comparisons of answers, as for training',
  extraction: 'Requests for the probabilities behind an answer',
  cluster: 'Requests that several accounts send in a common pattern',
  account_behavior: 'The pattern of all requests of the account over time',
};

/** Returns the kinds of behaviour that the decision is based on, at most two. */
function kindsOf({ contributions }: DecisionRecord): string[] {
  const strongest = contributions
    .filter(({ family, capped }) => capped > 0 && Object.hasOwn(KINDS, family))
    .toSorted((a, b) => b.capped - a.capped);
  return strongest.slice(0, 2).map(({ family }) => KINDS[family]!);
}

/**
 * Returns whether a decision had an effect on its request. A decision of an earlier version lacks
 * `enforced`; then mode and action determine the effect.
 */
export function isEnforced({ enforced, mode, action, degraded }: DecisionRecord): boolean {
  const isRefusal = action === 'block' || action === 'throttle';
  return enforced ?? (degraded === 'edited' || (mode === 'enforce' && isRefusal));
}

function outcomeOf(decision: DecisionRecord): string {
  if (!isEnforced(decision)) {
    return 'An automatic check noted the request. It was answered as usual.';
  }
  return decision.degraded === 'edited'
    ? 'An automatic check removed some parameters from the request. The rest was answered.'
    : 'An automatic check refused the request.';
}

/** Returns the explanation of a decision for the customer, as plain text. */
export function explain(decision: DecisionRecord): string {
  const { at, request_id, score, incomplete, action } = decision;
  const date = new Date(at);
  const iso = Number.isNaN(date.getTime()) ? 'unknown' : date.toISOString();
  const time = `${iso.slice(0, 19).replace('T', ' ')} UTC`;
  const head = [`Time: ${time}`, `Request id (your reference): ${request_id}`, ''];
  if (!isEnforced(decision) && (score === null || action === 'allow')) {
    return [...head, 'The request was answered as usual.', ''].join('\n');
  }
  if (score === null) {
    return [
      ...head,
      'The request was refused, because it could not be checked. That says nothing about its ' +
        'content.',
      'You can send it again. If it is refused again, reply with the request id.',
      '',
    ].join('\n');
  }
  const kinds = kindsOf(decision);
  const reasons = incomplete
    ? ['A part of the request could not be read, so it was not checked completely.']
    : kinds.length
      ? ['The check looks for the collection of answers to train other models. It found:']
      : ['The check looks for the collection of answers to train other models.'];
  return [
    ...head,
    outcomeOf(decision),
    ...reasons,
    ...(incomplete ? [] : kinds.map((kind) => `- ${kind}.`)),
    '',
    'Such a check can be wrong. To appeal, reply with the request id, and describe your ' +
      'application and the use of the answers. Do not send passwords or keys.',
    '',
  ].join('\n');
}
