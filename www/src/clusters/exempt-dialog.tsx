// A dialog that shows an exemption as text to paste into the policy. The console cannot change the
// policy itself, because the policy is signed.
import { useState } from 'preact/hooks';
import { type DecisionList, useApi } from '../api.ts';
import { Problem } from '../components/async-states.tsx';
import { Copy } from '../components/ui.tsx';
import { Dialog } from './dialog.tsx';
import { type ExemptionDraft, pushCommand, toToml, validationError } from './exemption.ts';

interface Props {
  /** The id of the cluster, and its former ids. */
  ids: readonly string[];
  onClose(): void;
}

export function ExemptDialog({ ids, onClose }: Props) {
  const cluster = ids[0] ?? '';
  const decisions = useApi<DecisionList>(
    `/decisions?limit=500&cluster=${encodeURIComponent(ids.join(','))}`,
  );
  const [edited, setEdited] = useState<ExemptionDraft>({
    kind: 'accounts',
    name: `cluster-${cluster}`,
    reason: '',
    until: dayInMonths(3),
    ids: null,
  });
  const found = decisions.state === 'ready' ? decisions.data.decisions : [];
  const { kind } = edited;
  const seen = found.flatMap(({ account, tenant }) =>
    (kind === 'accounts' ? account : tenant) ?? [],
  );
  const draft = { ...edited, ids: edited.ids ?? [...new Set(seen)] };
  const change = (part: Partial<ExemptionDraft>) => setEdited({ ...edited, ...part });
  const isLoading = !edited.ids && decisions.state === 'loading';
  const problem = isLoading ? `Loading the ${kind} of the cluster.` : validationError(draft);
  return (
    <Dialog title={`Exempt cluster ${cluster}`} onClose={onClose}>
      <p>
        Exemptions are part of the signed policy, so a token is not enough to create one. Fill in
        this form, paste the result into <code>rules/policy.toml</code>, and push. Only accounts and
        tenants can be exempted: anybody can join a cluster by sending what its members send.
      </p>
      <form class="dialog-form" onSubmit={(event) => event.preventDefault()}>
        <fieldset>
          <legend>Effect</legend>
          <Kind draft={draft} kind="accounts" change={change}>
            Allow these accounts, whatever their score, until the last day
          </Kind>
          <Kind draft={draft} kind="tenants" change={change}>
            Allow all accounts of these tenants, whatever their score, until the last day
          </Kind>
        </fieldset>
        <label>
          Name
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
        {decisions.state === 'failed' && (
          <Problem error={decisions.error} retry={decisions.reload} />
        )}
        <label>
          {kind === 'accounts' ? 'Accounts' : 'Tenants'}, one per line; filled in from the stored
          decisions of the cluster
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
          <Snippet label="Command, in the project’s directory" text={pushCommand(draft)} />
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

function Snippet({ label, text }: { label: string; text: string }) {
  return (
    <section class="snippet" aria-label={label}>
      <div class="row">
        <h3>{label}</h3>
        <Copy text={text} />
      </div>
      <pre tabIndex={0} role="region" aria-label={`${label}: text`}>
        {text}
      </pre>
    </section>
  );
}

/**
 * Returns the local date after `months` months, as YYYY-MM-DD. If that month does not have the day,
 * returns its last day.
 */
function dayInMonths(months: number): string {
  const date = new Date();
  const day = date.getDate();
  date.setMonth(date.getMonth() + months);
  if (date.getDate() !== day) date.setDate(0);
  const pad = (value: number) => String(value).padStart(2, '0');
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}
