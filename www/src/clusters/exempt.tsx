// An exemption is part of the signed policy, so no token is enough to make one: this gives the words to paste.
import { useState } from 'preact/hooks';
import { type Decisions, useApi } from '../api.ts';
import { Copy } from '../components/parts.tsx';
import { Problem } from '../components/states.tsx';
import { type Wish, command, complaint, toml } from './toml.ts';
import { Dialog } from './dialog.tsx';

export function Exempt({ cluster, onClose }: { cluster: string; onClose(): void }) {
  const decisions = useApi<Decisions>(`/decisions?limit=500&cluster=${encodeURIComponent(cluster)}`);
  const [wish, set] = useState<Wish>({ kind: 'accounts', cluster, name: `cluster-${cluster}`, reason: '', until: inMonths(3), accounts: null });
  const seen = decisions.state === 'ready' ? [...new Set(decisions.data.decisions.flatMap(({ account }) => account ?? []))] : [];
  const own = { ...wish, accounts: wish.accounts ?? seen };
  const change = (part: Partial<Wish>) => set({ ...wish, ...part });
  const awaits = own.kind === 'accounts' && !wish.accounts && decisions.state === 'loading';
  const problem = awaits ? 'Its accounts are being looked up.' : complaint(own);
  return (
    <Dialog title={`Exempt cluster ${cluster}`} onClose={onClose}>
      <p>
        Exemptions are part of the signed policy, so that nobody makes one with a token alone. Fill this in, paste the result into <code>rules/policy.toml</code>, and push.
      </p>
      <form class="dialog-form" onSubmit={(event) => event.preventDefault()}>
        <fieldset>
          <legend>What to do</legend>
          <Kind wish={wish} kind="accounts" change={change}>
            Allow these accounts, whatever their score, until the last day
          </Kind>
          <Kind wish={wish} kind="cluster" change={change}>
            Only watch the cluster: its own mode is shadow, until you remove the entry
          </Kind>
        </fieldset>
        <label>
          Name
          <input value={wish.name} maxLength={60} autocomplete="off" spellcheck={false} onInput={(event) => change({ name: event.currentTarget.value })} />
        </label>
        <label>
          Reason, for whoever reads it next year
          <input value={wish.reason} autofocus maxLength={200} autocomplete="off" placeholder="Our own nightly evaluation; ticket 4711" onInput={(event) => change({ reason: event.currentTarget.value })} />
        </label>
        <label>
          Last day; it ends at 24:00 UTC
          <input type="date" value={wish.until} min={inMonths(0)} onInput={(event) => change({ until: event.currentTarget.value })} />
        </label>
        {wish.kind === 'accounts' && decisions.state === 'failed' && <Problem error={decisions.error} retry={decisions.reload} />}
        {wish.kind === 'accounts' && (
          <label>
            Accounts, one a line; those of its kept decisions are filled in
            <textarea rows={4} spellcheck={false} value={own.accounts.join('\n')} onInput={(event) => change({ accounts: event.currentTarget.value.split(/\s+/) })} />
          </label>
        )}
      </form>
      {problem ? (
        <p class="complaint" role="status">
          {problem}
        </p>
      ) : (
        <>
          <Snippet label="For rules/policy.toml" text={toml(own)} />
          <Snippet label="Then, in the project’s directory" text={command(own)} />
        </>
      )}
    </Dialog>
  );
}

function Kind({ wish, kind, change, children }: { wish: Wish; kind: Wish['kind']; change(part: Partial<Wish>): void; children: string }) {
  return (
    <label class="choice">
      <input type="radio" name="kind" checked={wish.kind === kind} onChange={() => change({ kind })} /> {children}
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

/** A day so many months from now where one is, as forms and TOML write it; of a shorter month its last. */
function inMonths(months: number): string {
  const date = new Date();
  const day = date.getDate();
  date.setMonth(date.getMonth() + months);
  if (date.getDate() !== day) date.setDate(0);
  const digits = (value: number) => String(value).padStart(2, '0');
  return `${date.getFullYear()}-${digits(date.getMonth() + 1)}-${digits(date.getDate())}`;
}
