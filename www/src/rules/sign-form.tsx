// A form that signs and releases rules in the page, with a key that the user opens. The key is only
// in memory, and is dropped when the user leaves the view.
import { useRef, useState } from 'preact/hooks';
import { ApiError, type Release } from '../api.ts';
import { Problem } from '../components/async-states.tsx';
import { Hash, Time } from '../components/ui.tsx';
import type { Baseline } from './baseline.ts';
import { KeyError, openKey, type Signer } from './minisign.ts';
import { publish, type Published } from './publish.ts';

export interface SignProps {
  /** The bundle that the check built; null while there are problems. */
  bundle: string | null;
  isEdited: boolean;
  baseline: Baseline;
  /** Describes the released changes that signing would revert. Null while they are unknown. */
  reverts: string | null;
}

function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof KeyError) return new ApiError(0, 'key', error.message, error.remedy);
  const message = error instanceof Error ? error.message : String(error);
  return new ApiError(0, 'failed', message, 'try again, or sign on the command line');
}

/** Runs a task, and returns its state. */
function useTask() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const run = async (task: () => Promise<void>) => {
    setBusy(true);
    setError(null);
    try {
      await task();
    } catch (error) {
      setError(toApiError(error));
    }
    setBusy(false);
  };
  return { busy, error, run };
}

export default function SignForm(props: SignProps) {
  const [signer, setSigner] = useState<Signer | null>(null);
  if (!signer) return <KeyForm onOpen={setSigner} />;
  return <PublishForm signer={signer} onForget={() => setSigner(null)} {...props} />;
}

function KeyForm({ onOpen }: { onOpen(signer: Signer): void }) {
  const { busy, error, run } = useTask();
  const file = useRef<HTMLInputElement>(null);
  const passphrase = useRef<HTMLInputElement>(null);
  const submit = (event: Event) => {
    event.preventDefault();
    const chosen = file.current?.files?.[0];
    if (!chosen) return;
    void run(async () =>
      onOpen(await openKey(await chosen.text(), passphrase.current?.value ?? '')),
    );
  };
  return (
    <form class="rule-sign" onSubmit={submit}>
      <p class="note">
        The key stays in the memory of this page. It is not sent, and it is forgotten when you leave
        the view. Anyone with this key can change the rules.
      </p>
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

/** Returns the reason why signing is not possible yet, or null. */
function obstacle({ bundle, isEdited, baseline, reverts }: SignProps): string | null {
  if (!isEdited) return 'No file is edited, so there is nothing to sign.';
  if (bundle === null) return 'Wait until the check has finished without problems.';
  if (!baseline.newest) {
    return (
      'The current release is unknown, so a new one cannot be signed. Wait, reload the page, ' +
      'or push with the command line.'
    );
  }
  return reverts === null ? 'Wait until the diff is known.' : null;
}

interface PublishProps extends SignProps {
  signer: Signer;
  onForget(): void;
}

function PublishForm({ signer, onForget, ...props }: PublishProps) {
  const { bundle, baseline, reverts } = props;
  const { newest } = baseline;
  const reason = obstacle(props);
  const { busy, error, run } = useTask();
  const [published, setPublished] = useState<Published | null>(null);
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(form.get(name) ?? '').trim();
    const releaseNote = { note: text('note'), author: text('author') };
    setPublished(null);
    if (bundle === null || !newest) return;
    void run(async () => {
      try {
        setPublished(await publish(signer, bundle, newest.serial, releaseNote));
      } finally {
        baseline.reload();
      }
    });
  };
  return (
    <form class="rule-sign" onSubmit={submit}>
      <p>
        Key <code>{keyId(signer.id)}</code> is open.{' '}
        <button type="button" class="quiet" onClick={onForget}>
          Forget it
        </button>
      </p>
      {newest?.release && <EndingParts release={newest.release} />}
      {reverts && newest && (
        <RevertConfirmation
          key={`${newest.serial} ${reverts}`}
          serial={newest.serial}
          reverts={reverts}
        />
      )}
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
          {busy ? 'Publishing…' : 'Sign and release for all accounts'}
        </button>
      </div>
      {reason && <p class="note">{reason}</p>}
      {error && <Problem error={error} />}
      <div role="status">{published && <Result published={published} />}</div>
    </form>
  );
}

interface RevertProps {
  serial: number;
  reverts: string;
}

/**
 * A checkbox to confirm the reverted changes. Its `key` contains its text, so that a changed text
 * must be confirmed again.
 */
const RevertConfirmation = ({ serial, reverts }: RevertProps) => (
  <label class="rule-confirmation">
    <input type="checkbox" required />
    <span>
      I understand that this will {reverts}, compared with release {serial}
    </span>
  </label>
);

/** Lists the parts of the current release that the new release ends: canary, shadow and expiry. */
function EndingParts({ release: { serial, canary, shadow, expires } }: { release: Release }) {
  if (!canary && !shadow && !expires) return null;
  return (
    <div>
      <p>The new release ends these parts of release {serial}:</p>
      <ul>
        {canary && (
          <li>
            the canary, bundle <Hash value={canary.digest} /> for {canary.percent} % of the accounts
          </li>
        )}
        {shadow && (
          <li>
            the shadow, bundle <Hash value={shadow.digest} />
          </li>
        )}
        {expires && (
          <li>
            the expiry, <Time at={expires * 1000} />: your rules stay active until the next release
          </li>
        )}
      </ul>
    </div>
  );
}

function Result({ published: { digest, serial, published, problem } }: { published: Published }) {
  const reason = problem ? `: ${problem}` : '';
  return (
    <p>
      Release {serial} with bundle <Hash value={digest} /> is{' '}
      {published
        ? 'published. The edge adopts it within minutes.'
        : `stored, but not visible to the edge yet${reason}. The registry retries.`}
    </p>
  );
}

/** Formats a key id as minisign does: hexadecimal, last byte first. */
const keyId = (id: Uint8Array) =>
  [...id]
    .reverse()
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('')
    .toUpperCase();
