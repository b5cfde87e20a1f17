// A dialog that revokes keys one after the other, or all indicators of a cluster at once, with a
// reason.
import { useState } from 'preact/hooks';
import { ApiError, call } from '../api.ts';
import { Problem } from '../components/async-states.tsx';
import { Dialog } from '../components/dialog.tsx';

/** `done` is the number of keys that are revoked. */
type Progress =
  | { state: 'editing' }
  | { state: 'busy' | 'done'; done: number }
  | { state: 'failed'; done: number; error: ApiError };

/** Returns the end of a local day, in seconds since the epoch. */
const endOfDay = (day: string) => Math.floor(new Date(`${day}T23:59:59`).getTime() / 1000);

/** Returns the local date as YYYY-MM-DD. */
const today = () =>
  new Date(Date.now() - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 10);

/** Focuses an element that replaces the form, so that screen readers announce it. */
const focus = (element: HTMLElement | null) => element?.focus();

interface Props {
  keys: readonly string[];
  /** Cluster whose indicators are all revoked in one call, instead of `keys` one by one. */
  cluster?: string;
  /** Called when the dialog closes. `changed` says whether a key was revoked. */
  onClose(changed: boolean): void;
}

/**
 * A modal dialog that asks for a reason and revokes. If the user opens another view meanwhile, the
 * remaining keys are still revoked.
 */
export function RevokeDialog({ keys, cluster, onClose }: Props) {
  const [progress, setProgress] = useState<Progress>({ state: 'editing' });
  const busy = progress.state === 'busy';
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (busy) return;
    const body = revocation(new FormData(event.currentTarget as HTMLFormElement));
    // A second attempt skips the keys that are already revoked.
    let done = progress.state === 'failed' ? progress.done : 0;
    try {
      if (cluster) {
        setProgress({ state: 'busy', done });
        const selection = { ...body, filter: { cluster } };
        await call('/indicators/revoke', { method: 'POST', body: selection });
        done = keys.length;
      } else {
        for (const key of keys.slice(done)) {
          setProgress({ state: 'busy', done });
          await call(`/indicators/${key}/revoke`, { method: 'POST', body });
          done += 1;
        }
      }
      setProgress({ state: 'done', done });
    } catch (error) {
      const failure =
        error instanceof ApiError ? error : new ApiError(0, 'failed', String(error), 'try again');
      setProgress({ state: 'failed', done, error: failure });
    }
  };
  const changed = progress.state !== 'editing' && progress.done > 0;
  const subject = cluster
    ? `all indicators of cluster ${cluster}`
    : keys.length === 1
      ? `key ${keys[0]}`
      : `${keys.length} keys`;
  return (
    <Dialog title={`Revoke ${subject}`} busy={busy} onClose={() => onClose(changed)}>
      <p>
        {keys.length === 1 ? 'The indicators of this key' : 'The indicators of these keys'} stop
        counting within seconds, for all correlations, even if a correlation fires again. The
        revocation ends when the indicators would have expired, or after the day that you choose.
        Accounts and counts do not change. You cannot undo it.
      </p>
      {progress.state === 'done' ? (
        <p role="status" tabIndex={-1} ref={focus}>
          {cluster
            ? 'All indicators of the cluster are revoked.'
            : keys.length === 1
              ? 'The key is revoked.'
              : `All ${keys.length} keys are revoked.`}{' '}
          The audit log has an entry.
        </p>
      ) : (
        <form class="dialog-form" onSubmit={submit}>
          <Fields />
          {progress.state === 'failed' && <Problem error={withSignInRemedy(progress.error)} />}
          <div class="row">
            <button type="submit" class="danger" aria-disabled={busy}>
              {progress.state === 'failed' ? 'Try again' : `Revoke ${subject}`}
            </button>
            <span class="note" role="status">
              {progress.state !== 'editing' &&
                !cluster &&
                keys.length > 1 &&
                `${progress.done} of ${keys.length} revoked${busy ? '; please wait' : ''}`}
            </span>
          </div>
        </form>
      )}
    </Dialog>
  );
}

function Fields() {
  return (
    <>
      <label>
        Reason, for the audit log
        <input
          name="reason"
          autofocus
          required
          maxLength={200}
          pattern=".*\S.*"
          title="Enter a short reason"
          autocomplete="off"
          placeholder="our own nightly evaluation"
        />
      </label>
      <label>
        Your name
        <input
          name="author"
          required
          maxLength={80}
          pattern=".*\S.*"
          title="For the audit log"
          autocomplete="name"
        />
      </label>
      <label>
        Last day of the revocation (it ends at midnight, your time); empty: until the expiry
        <input name="until" type="date" min={today()} />
      </label>
    </>
  );
}

/** Returns the body of the API call. */
function revocation(form: FormData) {
  const until = String(form.get('until') ?? '');
  return {
    reason: String(form.get('reason')).trim(),
    author: String(form.get('author')).trim(),
    ...(until && { until: endOfDay(until) }),
  };
}

/** Extends the remedy of a 403 by a hint on how to change the token in the console. */
function withSignInRemedy(error: ApiError): ApiError {
  if (error.status !== 403) return error;
  const remedy = `${error.remedy}: sign out above, and sign in with that token`;
  return new ApiError(403, error.code, error.message, remedy);
}
