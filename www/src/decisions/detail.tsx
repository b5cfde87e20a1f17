// A decision: its score, its evidence and its action.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import {
  type DecisionHit,
  type DecisionList,
  type DecisionRecord,
  latest,
  useApi,
} from '../api.ts';
import { Async, Empty } from '../components/async-states.tsx';
import { ActionTag, BandTag, Copy, Hash, Name, Time } from '../components/ui.tsx';
import { Waterfall } from '../components/waterfall.tsx';
import { byteRange, bytes, count, decibans, share } from '../format.ts';
import { REASONS } from '../overview/unscored.tsx';
import { ExemptSender } from '../policy/exempt-dialog.tsx';
import { WeightDialog } from '../policy/weight-dialog.tsx';
import { addressOf, link } from '../router.ts';
import { RuleNotes } from '../rules/rule-notes.tsx';
import { referenceOf } from './appeal.ts';
import { explain, isEnforced } from './explanation.ts';
import { effectOf } from './list.tsx';

interface Props {
  id: string;
  /** The decision, if the list has it. Otherwise it is loaded. */
  known: DecisionRecord | undefined;
  /** Opens the decision that many rows below this one. */
  onStep(steps: number): void;
  onClose(): void;
}

export function Detail({ id, known, onStep, onClose }: Props) {
  const query = new URLSearchParams({ id, limit: '1' });
  const loaded = useApi<DecisionList>(known ? null : `/decisions?${query}`);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  const shown = known ?? latest(loaded)?.decisions[0];
  return (
    <section class="panel detail" aria-labelledby="detail-title">
      <div class="panel-head detail-head">
        <h2 id="detail-title" tabIndex={-1} ref={heading}>
          Decision
        </h2>
        <span class="panel-end">
          <button type="button" aria-keyshortcuts="k" onClick={() => onStep(-1)}>
            Previous
          </button>
          <button type="button" aria-keyshortcuts="j" onClick={() => onStep(1)}>
            Next
          </button>
          <button type="button" aria-keyshortcuts="Escape" onClick={onClose}>
            Close
          </button>
        </span>
        {shown && <Key decision={shown} />}
      </div>
      {/* One place for both sources, so that an open dialog stays when the list arrives. */}
      {shown ? (
        <DecisionBody decision={shown} />
      ) : (
        <Async loaded={loaded} lines={10}>
          {() => <NotFound />}
        </Async>
      )}
    </section>
  );
}

/** The account, the model and the request id. They stay in view while the user scrolls. */
const Key = ({ decision }: { decision: DecisionRecord }) => (
  <p class="detail-key note">
    {decision.account ? <Account decision={decision} /> : 'no account'} ·{' '}
    {decision.model ?? 'no model'} · <code>{decision.request_id}</code>
  </p>
);

const NotFound = () => (
  <Empty>
    <p>
      The ledger does not have this decision: it was neither enforced nor sampled, or it was
      deleted.
    </p>
    <p>Search the Worker’s log for the request id.</p>
  </Empty>
);

/** The open dialog: an exemption, or the weight of a hit. */
type Proposal = 'exemption' | DecisionHit;

function DecisionBody({ decision }: { decision: DecisionRecord }) {
  const { request_id, score, band, prior, hits, contributions, error } = decision;
  const reference = referenceOf(request_id);
  const [proposal, setProposal] = useState<Proposal>();
  const closeProposal = () => setProposal(undefined);
  return (
    <div class="decision-body">
      <p class="row">
        <Copy text={request_id} label="Copy id" />
        <Copy text={addressOf(link('decisions', { open: request_id }))} label="Copy link" />
        <Copy text={explain(decision)} label="Copy explanation" />
        {(decision.account || decision.tenant) && (
          <button type="button" class="quiet" onClick={() => setProposal('exemption')}>
            Exempt…
          </button>
        )}
      </p>
      {reference && (
        <p class="row">
          <span class="note">Appeal reference</span>
          <code class="id">{reference}</code> <Copy text={reference} label="Copy reference" />
        </p>
      )}
      {score !== null && band ? (
        <Waterfall
          prior={prior}
          hits={hits}
          contributions={contributions}
          score={score}
          band={band}
          onPick={(signature) => void (location.hash = link('decisions', { signature }))}
        />
      ) : (
        <div class="problem">
          <p>
            <strong>The request could not be scored: {error ?? 'unknown reason'}.</strong> There is
            no evidence. The overview shows the remedy.
          </p>
        </div>
      )}
      <Outcome decision={decision} />
      {hits.length > 0 && <Hits hits={hits} onWeigh={setProposal} />}
      <Facts decision={decision} />
      {proposal === 'exemption' && <ExemptSender decision={decision} onClose={closeProposal} />}
      {proposal && proposal !== 'exemption' && (
        <WeightDialog decision={decision} hit={proposal} onClose={closeProposal} />
      )}
      <p class="note">
        Hedgerow never stores text of a request, so no prompt can be shown. Byte ranges locate the
        evidence; the first byte is byte 0.
      </p>
    </div>
  );
}

/** The effects of the action `degrade`, by its outcome. */
const DEGRADED: Readonly<Record<string, string>> = {
  edited: 'was enforced: the request was forwarded without some parameters.',
  unchanged: 'was enforced, but the request had nothing to remove.',
  not_editable: 'was enforced, but the body could not be edited.',
};

function Outcome({ decision }: { decision: DecisionRecord }) {
  const { mode, action, exemption, band, degraded = '' } = decision;
  const refusal = isEnforced(decision) && degraded !== 'edited' ? ' The request was refused.' : '';
  const enforcement =
    mode === 'enforce'
      ? `${DEGRADED[degraded] ?? 'was enforced.'}${refusal}`
      : `was only recorded: in mode enforce, the request ${effectOf(decision)}. ` +
        'The mode was shadow, so it was forwarded.';
  return (
    <p>
      {band && <BandTag band={band} />} <ActionTag action={action} />{' '}
      {action === 'allow' ? 'was decided: the request was forwarded.' : enforcement}
      {exemption && (
        <>
          {' '}
          The exemption <b class="breakable">{exemption}</b> applied.
        </>
      )}
    </p>
  );
}

interface HitsProps {
  hits: DecisionRecord['hits'];
  /** Called with a hit whose weight the user wants to change. */
  onWeigh(hit: DecisionHit): void;
}

function Hits({ hits, onWeigh }: HitsProps) {
  return (
    <section>
      <h3>Evidence</h3>
      <ul class="hits">
        {hits.map((hit) => (
          <Hit key={`${hit.name} ${hit.key}`} hit={hit} onWeigh={() => onWeigh(hit)} />
        ))}
      </ul>
    </section>
  );
}

function Hit({ hit, onWeigh }: { hit: DecisionHit; onWeigh(): void }) {
  const { name, family, weight, evidence, innocence, key } = hit;
  return (
    <li>
      <a href={link('rules', { rule: name })} title="Open the rule">
        <Name>{name}</Name>
      </a>{' '}
      <span class="note">{family}</span> <span class="weight">{decibans(weight)}</span>
      {evidence.map((range) => (
        <div key={`${range.field} ${range.start}`} class="where">
          <code>{range.field}</code> {range.end > range.start ? byteRange(range) : 'as a whole'}
        </div>
      ))}
      {innocence && <div class="where">innocence: {innocence.join(', ')}</div>}
      {key && (
        <div class="where">
          indicator <code>{key}</code>
        </div>
      )}
      <RuleNotes name={name} />
      <p class="row where">
        <a href={link('decisions', { signature: name })}>Decisions with this hit</a>
        <button type="button" class="link" onClick={onWeigh}>
          Change its weight…
        </button>
      </p>
    </li>
  );
}

/**
 * Describes the part of a request that was not scored. Returns an empty text if the whole request
 * was scored.
 */
function describeUnscored({ unscored, scored_share, incomplete }: DecisionRecord): string {
  if (unscored.length === 0) return '';
  const scored = scored_share === null ? 'an unknown part' : share(scored_share, 1);
  const reasons = unscored.map((reason) => REASONS[reason] ?? reason).join('; ');
  const effect = incomplete ? `. The action is the policy’s for “${incomplete}”` : '';
  return `${scored} of the body was scored: ${reasons}${effect}`;
}

/** The cluster whose treatment applies, its former ids, and the other clusters of the request. */
function Clusters({ decision }: { decision: DecisionRecord }) {
  const { cluster, cluster_aliases: aliases = [], other_clusters: others = [] } = decision;
  if (!cluster) return null;
  const toLink = (id: string) => <a href={link('clusters', { id })}>{id}</a>;
  return (
    <>
      {toLink(cluster)}
      {aliases.length > 0 && ` (before: ${aliases.join(', ')})`}
      {others.length > 0 && '; also in '}
      {others.map((id, index) => (
        <span key={id}>
          {index > 0 && ', '}
          {toLink(id)}
        </span>
      ))}
    </>
  );
}

function Facts({ decision }: { decision: DecisionRecord }) {
  const { account, tenant, tenant_label, model, colo, dialect, operation, entries, error } =
    decision;
  const { role, serial, ruleset, shadow_hits, unreadable } = decision;
  const requests = entries > 1 ? `, ${count(entries)} requests` : '';
  const facts: [string, ComponentChildren][] = [
    ['Time', <Time at={decision.at} precision="millisecond" />],
    ['Account', account && <Account decision={decision} />],
    ['Tenant', tenant && <Named id={tenant} label={tenant_label} />],
    ['Cluster', <Clusters decision={decision} />],
    ['Model', model && <FilterLink name="model" value={model} />],
    ['Colo', <FilterLink name="colo" value={colo} />],
    ['Dialect, operation', dialect && `${dialect}, ${operation}`],
    ['Body', `${bytes(decision.body_bytes)}${requests}`],
    ['Not scored whole', describeUnscored(decision)],
    ['Unreadable', unreadable.join(', ')],
    [
      'Ruleset',
      <>
        <Hash value={ruleset || null} /> as {role}
        {serial !== null && `, release ${serial}`}
      </>,
    ],
    ['Mode', decision.mode],
    ['Experimental hits', shadow_hits.length > 0 && `${shadow_hits.join(', ')} (without weight)`],
    ['Error', error],
  ];
  return (
    <dl class="facts">
      {facts
        .filter(([, value]) => value)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

/** The account, with its kind (such as key or JWT) and with the origin's label for it. */
const Account = ({ decision }: { decision: DecisionRecord }) => (
  <>
    {decision.account_label && <b class="breakable">{decision.account_label} </b>}
    <FilterLink name="account" value={decision.account!} />
    {decision.account_kind && <span class="note"> by {decision.account_kind}</span>}
  </>
);

const Named = ({ id, label }: { id: string; label: string | undefined }) => (
  <>
    {label && <b class="breakable">{label} </b>}
    <code class="breakable">{id}</code>
  </>
);

const FilterLink = ({ name, value }: { name: string; value: string }) => (
  <a href={link('decisions', { [name]: value })} title={`Decisions of this ${name}`}>
    {value}
  </a>
);
