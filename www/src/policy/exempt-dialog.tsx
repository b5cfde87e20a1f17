// A dialog that shows an exemption as text to paste into the policy. The console cannot change the
// policy itself, because the policy is signed.
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { type DecisionList, type DecisionRecord, useApi } from '../api.ts';
import { Problem } from '../components/async-states.tsx';
import { Dialog } from '../components/dialog.tsx';
import { count } from '../format.ts';
import {
  dayInMonths,
  exemptionCommand,
  type ExemptionDraft,
  toToml,
  validationError,
} from './proposals.ts';
import { Snippet } from './snippet.tsx';

interface Props {
  title: string;
  /** Decisions whose accounts and tenants can be exempted; undefined while they are loading. */
  decisions: readonly DecisionRecord[] | undefined;
  /** Signatures to which the exemption can be limited. */
  signatures?: readonly string[];
  /** Where the ids come from. */
  source: ComponentChildren;
  children?: ComponentChildren;
  onClose(): void;
}

/** Exempts the sender of a request. */
export function ExemptSender({ decision, onClose }: { decision: DecisionRecord; onClose(): void }) {
  const { account, account_label, tenant } = decision;
  const evidence = decision.hits.filter(({ weight }) => weight > 0).map(({ name }) => name);
  const sender = account_label ?? account?.slice(0, 8) ?? `of tenant ${tenant?.slice(0, 8)}`;
  return (
    <ExemptDialog
      title={`Exempt account ${sender}`}
      decisions={[decision]}
      signatures={[...new Set(evidence)]}
      source="filled in from this decision"
      onClose={onClose}
    />
  );
}

interface ClusterProps {
  /** The id of the cluster, and its former ids. */
  ids: readonly string[];
  /** Number of its accounts; undefined if it is not known. */
  accounts: number | undefined;
  onClose(): void;
}

/** Exempts accounts of a cluster. */
export function ExemptMembers({ ids, accounts, onClose }: ClusterProps) {
  const loaded = useApi<DecisionList>(
    `/decisions?limit=500&cluster=${encodeURIComponent(ids.join(','))}`,
  );
  const decisions = loaded.state === 'loading' ? undefined : (loaded.data?.decisions ?? []);
  const found = new Set(decisions?.flatMap(({ account }) => account ?? [])).size;
  const members = accounts === undefined ? '' : `, which has ${count(accounts)} accounts`;
  return (
    <ExemptDialog
      title={`Exempt accounts of cluster ${ids[0] ?? ''}`}
      decisions={decisions}
      source={`${count(found)} found in the stored decisions of the cluster${members}`}
      onClose={onClose}
    >
      {loaded.state === 'failed' && <Problem error={loaded.error} retry={loaded.reload} />}
    </ExemptDialog>
  );
}

function ExemptDialog({ title, decisions, signatures = [], source, children, onClose }: Props) {
  const [edited, setEdited] = useState<ExemptionDraft>({
    kind: decisions?.[0]?.account === null ? 'tenants' : 'accounts',
    name: '',
    reason: '',
    until: dayInMonths(3),
    ids: null,
    signatures: [],
  });
  const { kind } = edited;
  const seen = decisions?.flatMap(({ account, tenant }) =>
    (kind === 'accounts' ? account : tenant) ?? [],
  );
  const draft = { ...edited, ids: edited.ids ?? [...new Set(seen)] };
  const change = (part: Partial<ExemptionDraft>) => setEdited({ ...edited, ...part });
  const problem =
    edited.ids || decisions ? validationError(draft) : `Loading the ${kind} of the cluster.`;
  return (
    <Dialog title={title} onClose={onClose}>
      <p>
        Exemptions are part of the signed policy, so a token is not enough to create one. Fill in
        this form, paste the result into <code>rules/policy.toml</code>, and push. Only accounts and
        tenants can be exempted: anybody can join a cluster by sending what its members send.
      </p>
      <form class="dialog-form" onSubmit={(event) => event.preventDefault()}>
        <fieldset>
          <legend>Effect</legend>
          <Kind draft={draft} kind="accounts" change={change}>
            Allow these accounts until the last day
          </Kind>
          <Kind draft={draft} kind="tenants" change={change}>
            Allow all accounts of these tenants until the last day
          </Kind>
          {signatures.length > 0 && (
            <label class="choice">
              <input
                type="checkbox"
                onChange={(event) =>
                  change({ signatures: event.currentTarget.checked ? signatures : [] })
                }
              />{' '}
              Only ignore the {signatures.length} signatures that hit here; others still count
            </label>
          )}
        </fieldset>
        <label>
          Name; empty: named after each account or tenant
          <input
            value={draft.name}
            maxLength={60}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => change({ name: event.currentTarget.value })}
          />
        </label>
        <label>
          Reason, for later readers
          <input
            value={draft.reason}
            autofocus
            maxLength={200}
            autocomplete="off"
            placeholder="Our own nightly evaluation; ticket 4711"
            onInput={(event) => change({ reason: event.currentTarget.value })}
          />
        </label>
        <label>
          Last day; the exemption ends at 24:00 UTC
          <input
            type="date"
            value={draft.until}
            min={dayInMonths(0)}
            onInput={(event) => change({ until: event.currentTarget.value })}
          />
        </label>
        {children}
        <label>
          {kind === 'accounts' ? 'Accounts' : 'Tenants'}, one per line; {source}
          <textarea
            rows={4}
            spellcheck={false}
            value={draft.ids.join('\n')}
            onInput={(event) => change({ ids: event.currentTarget.value.split(/\s+/) })}
          />
        </label>
      </form>
      {problem ? (
        <p class="validation-error" role="status">
          {problem}
        </p>
      ) : (
        <>
          <Snippet label="Entry for rules/policy.toml" text={toToml(draft)} />
          <Snippet label="Command, in the project’s directory" text={exemptionCommand(draft)} />
        </>
      )}
    </Dialog>
  );
}

interface KindProps {
  draft: ExemptionDraft;
  kind: ExemptionDraft['kind'];
  change(part: Partial<ExemptionDraft>): void;
  children: string;
}

function Kind({ draft, kind, change, children }: KindProps) {
  return (
    <label class="choice">
      <input
        type="radio"
        name="kind"
        checked={draft.kind === kind}
        onChange={() => change({ kind, ids: null })}
      />{' '}
      {children}
    </label>
  );
}
