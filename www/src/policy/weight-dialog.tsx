// A dialog that proposes another weight for a signature as text to paste into the policy, with the
// effect on stored decisions.
import { useMemo, useState } from 'preact/hooks';
import { type DecisionHit, type DecisionList, type DecisionRecord, useApi } from '../api.ts';
import { Async } from '../components/async-states.tsx';
import { Dialog } from '../components/dialog.tsx';
import { count, decibans, score } from '../format.ts';
import { link } from '../router.ts';
import { effectOfWeight, scoreWith } from './effect.ts';
import { EffectTables } from './effect-tables.tsx';
import { toWeightToml, weightCommand } from './proposals.ts';
import { Snippet } from './snippet.tsx';

/** Maximum absolute weight that the policy accepts, in decibans. */
const MAX_WEIGHT = 40;

interface Props {
  decision: DecisionRecord;
  hit: DecisionHit;
  onClose(): void;
}

export function WeightDialog({ decision, hit: { name, weight: current }, onClose }: Props) {
  const [text, setText] = useState(String(current));
  const query = new URLSearchParams({ signature: name, limit: '500' });
  const loaded = useApi<DecisionList>(`/decisions?${query}`);
  const weight = Number(text);
  const isValid = text.trim() !== '' && Math.abs(weight) <= MAX_WEIGHT;
  const after = isValid ? scoreWith(decision, name, weight) : null;
  return (
    <Dialog title={`Weight of ${name}`} onClose={onClose}>
      <p>
        Weights are part of the signed policy. Paste the entry into <code>rules/policy.toml</code>,
        and push. An honest sender is better served by an exemption of its account.
      </p>
      <form class="dialog-form" onSubmit={(event) => event.preventDefault()}>
        <label>
          Weight in dB; now {decibans(current)}, and 0 switches the signature off
          <input
            type="number"
            step="any"
            min={-MAX_WEIGHT}
            max={MAX_WEIGHT}
            autofocus
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
      </form>
      {!isValid || weight === current ? (
        <p class="validation-error" role="status">
          {isValid
            ? 'Enter another weight.'
            : `Enter a number from −${MAX_WEIGHT} to ${MAX_WEIGHT}.`}
        </p>
      ) : (
        <>
          {decision.score !== null && after !== null && (
            <p>
              Score of this decision: {score(decision.score)} → <b>{score(after)}</b>
            </p>
          )}
          <Snippet label="Entry for rules/policy.toml" text={toWeightToml(name, weight)} />
          <Snippet label="Command, in the project’s directory" text={weightCommand(name, weight)} />
          <h3>Effect on stored decisions with this hit</h3>
          <Async loaded={loaded} lines={4}>
            {(list) => <StoredEffect list={list} name={name} weight={weight} />}
          </Async>
        </>
      )}
    </Dialog>
  );
}

interface EffectProps {
  list: DecisionList;
  name: string;
  weight: number;
}

function StoredEffect({ list: { decisions, kept, counted }, name, weight }: EffectProps) {
  const effect = useMemo(
    () => effectOfWeight(decisions, name, weight),
    [decisions, name, weight],
  );
  return (
    <>
      <p class="note">
        An estimate from the newest stored decisions, at most 500. The sample has {count(kept)} of
        the {count(counted)} counted decisions. Signs of innocence, and caps that were not reached,
        are not computed again.
      </p>
      <EffectTables
        effect={effect}
        toRequest={(id) => <a href={link('decisions', { open: id })}>…{id.slice(-8)}</a>}
      />
    </>
  );
}
