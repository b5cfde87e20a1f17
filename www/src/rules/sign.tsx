// Signing in the page, with a key that is lent to it: in memory only, and forgotten when the view is left.
import { useRef, useState } from 'preact/hooks';
import { ApiError, type Release } from '../api.ts';
import { Hash, Time } from '../components/parts.tsx';
import { Problem } from '../components/states.tsx';
import { KeyProblem, open, type Signer } from './minisign.ts';
import { publish, type Published } from './publish.ts';
import type { Reference } from './reference.ts';

export interface SignProps {
  /** What the check built; null while there is something to mend. */
  bundle: string | null;
  isEdited: boolean;
  reference: Reference;
  /** What of the release it would undo, in words; null while that is not known. */
  undone: string | null;
}

function problemOf(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof KeyProblem) return new ApiError(0, 'key', error.message, error.remedy);
  return new ApiError(0, 'failed', error instanceof Error ? error.message : String(error), 'try again, or sign on the command line');
}

/** What is busy says so; what fails says why. */
function useTask() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const run = async (task: () => Promise<void>) => {
    setBusy(true);
    setError(null);
    try {
      await task();
    } catch (error) {
      setError(problemOf(error));
    }
    setBusy(false);
  };
  return { busy, error, run };
}

export default function Sign(props: SignProps) {
  const [signer, setSigner] = useState<Signer | null>(null);
  if (!signer) return <Lend onOpen={setSigner} />;
  return <PublishForm signer={signer} onForget={() => setSigner(null)} {...props} />;
}

function Lend({ onOpen }: { onOpen(signer: Signer): void }) {
  const { busy, error, run } = useTask();
  const file = useRef<HTMLInputElement>(null);
  const passphrase = useRef<HTMLInputElement>(null);
  const submit = (event: Event) => {
    event.preventDefault();
    const chosen = file.current?.files?.[0];
    if (chosen) void run(async () => onOpen(await open(await chosen.text(), passphrase.current?.value ?? '')));
  };
  return (
    <form class="rule-sign" onSubmit={submit}>
      <p class="note">The key stays in this page's memory, is sent nowhere, and is forgotten when you leave the view. Whoever has it chooses the rules.</p>
      <div class="fields">
        <label>
          Secret key file
          <input type="file" ref={file} required />
        </label>
        <label>
          Passphrase, if it has one
          <input type="password" ref={passphrase} autocomplete="off" />
        </label>
        <button type="submit" disabled={busy}>
          {busy ? 'Opening…' : 'Open the key'}
        </button>
      </div>
      {error && <Problem error={error} />}
    </form>
  );
}

/** Why nothing can be signed yet. */
function obstacle({ bundle, isEdited, reference: { newest }, undone }: SignProps): string | null {
  if (!isEdited) return 'Nothing is edited, so there is nothing to sign.';
  if (bundle === null) return 'First the check has to be done, with nothing to mend.';
  if (!newest) return 'What is released is not known, so nothing can be signed over it. Wait, reload the page, or push by the command line.';
  return undone === null ? 'First the difference has to be known.' : null;
}

function PublishForm({ signer, onForget, ...props }: SignProps & { signer: Signer; onForget(): void }) {
  const { bundle, reference, undone } = props;
  const { newest } = reference;
  const reason = obstacle(props);
  const { busy, error, run } = useTask();
  const [done, setDone] = useState<Published | null>(null);
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const words = { note: String(form.get('note') ?? '').trim(), author: String(form.get('author') ?? '').trim() };
    setDone(null);
    if (bundle !== null && newest)
      void run(async () => {
        try {
          setDone(await publish(signer, bundle, newest.serial, words));
        } finally {
          reference.reload();
        }
      });
  };
  return (
    <form class="rule-sign" onSubmit={submit}>
      <p>
        Key <code>{keyName(signer.id)}</code> is open.{' '}
        <button type="button" class="quiet" onClick={onForget}>
          Forget it
        </button>
      </p>
      {newest?.release && <Ends release={newest.release} />}
      {undone && newest && <Known key={`${newest.serial} ${undone}`} serial={newest.serial} undone={undone} />}
      <div class="fields">
        <label>
          Note
          <input name="note" required maxLength={200} autocomplete="off" />
        </label>
        <label>
          Author
          <input name="author" required maxLength={80} />
        </label>
        <button type="submit" class="primary" disabled={busy || reason !== null}>
          {busy ? 'Publishing…' : 'Sign and put in force for all'}
        </button>
      </div>
      {reason && <p class="note">{reason}</p>}
      {error && <Problem error={error} />}
      <div role="status">{done && <Done published={done} />}</div>
    </form>
  );
}

/** Keyed by what it says: what else would be undone by now has to be confirmed anew. */
const Known = ({ serial, undone }: { serial: number; undone: string }) => (
  <label class="rule-known">
    <input type="checkbox" required />
    <span>
      I know that of release {serial} this will {undone}
    </span>
  </label>
);

/** The new release has none of what the one before it may have. */
function Ends({ release: { serial, canary, shadow, expires } }: { release: Release['release'] }) {
  if (!canary && !shadow && !expires) return null;
  return (
    <div>
      <p>With this release, what belongs to release {serial} ends:</p>
      <ul>
        {canary && (
          <li>
            its canary, bundle <Hash value={canary.digest} /> for {canary.percent} % of the accounts
          </li>
        )}
        {shadow && (
          <li>
            its shadow, bundle <Hash value={shadow.digest} />, which only watches
          </li>
        )}
        {expires && (
          <li>
            its expiry, <Time at={expires * 1000} />: your rules stay in force until another release
          </li>
        )}
      </ul>
    </div>
  );
}

const Done = ({ published: { digest, serial, published, problem } }: { published: Published }) => (
  <p>
    Release {serial} with bundle <Hash value={digest} /> is {published ? 'published; the edge takes it up within minutes' : `stored, but not visible to the edge yet${problem ? `: ${problem}` : ''}. The registry tries again by itself`}.
  </p>
);

/** As minisign prints it: the id's bytes, last first. */
const keyName = (id: Uint8Array) => [...id].reverse().map((byte) => byte.toString(16).padStart(2, '0')).join('').toUpperCase();
