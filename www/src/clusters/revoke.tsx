// Takes keys out of force, one after the other, with a reason.
import { useState } from 'preact/hooks';
import { ApiError, call } from '../api.ts';
import { Problem } from '../components/states.tsx';
import { Dialog } from './dialog.tsx';

type Progress = { state: 'asking' } | { state: 'busy' | 'done'; done: number } | { state: 'failed'; done: number; error: ApiError };

/** The end of a local day, in seconds since the epoch. */
const endOf = (day: string) => Math.floor(new Date(`${day}T23:59:59`).getTime() / 1000);

const today = () => new Date(Date.now() - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 10);

/** What has changed places is read out. */
const focus = (element: HTMLElement | null) => element?.focus();

/** `onClose` is told whether anything was revoked. Who leaves the page leaves the rest to be revoked behind it. */
export function Revoke({ keys, onClose }: { keys: readonly string[]; onClose(changed: boolean): void }) {
  const [progress, set] = useState<Progress>({ state: 'asking' });
  const busy = progress.state === 'busy';
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (busy) return;
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const until = String(form.get('until') ?? '');
    const body = { reason: String(form.get('reason')).trim(), author: String(form.get('author')).trim(), ...(until && { until: endOf(until) }) };
    // What a failed attempt has revoked already is not revoked again.
    let done = progress.state === 'failed' ? progress.done : 0;
    try {
      for (const key of keys.slice(done)) {
        set({ state: 'busy', done });
        await call(`/indicators/${key}/revoke`, { method: 'POST', body });
        done += 1;
      }
      set({ state: 'done', done });
    } catch (error) {
      set({ state: 'failed', done, error: error instanceof ApiError ? error : new ApiError(0, 'failed', String(error), 'try again') });
    }
  };
  const changed = progress.state !== 'asking' && progress.done > 0;
  const what = keys.length === 1 ? `key ${keys[0]}` : `${keys.length} keys`;
  return (
    <Dialog title={`Revoke ${what}`} busy={busy} onClose={() => onClose(changed)}>
      <p>
        {keys.length === 1 ? 'Its indicators are' : 'Their indicators are'} out of force within seconds, for all correlations, until they would have expired or until the day that you choose; also if a correlation holds
        again meanwhile. Accounts and counts are not touched. It cannot be undone.
      </p>
      {progress.state === 'done' ? (
        <p role="status" tabIndex={-1} ref={focus}>
          {keys.length === 1 ? 'It is revoked.' : `All ${keys.length} are revoked.`} The audit log has it.
        </p>
      ) : (
        <form class="dialog-form" onSubmit={submit}>
          <label>
            Reason, for the audit log
            <input name="reason" autofocus required maxLength={200} pattern=".*\S.*" title="Say why, in a few words" autocomplete="off" placeholder="our own nightly evaluation" />
          </label>
          <label>
            Your name
            <input name="author" required maxLength={80} pattern=".*\S.*" title="For the audit log" autocomplete="name" />
          </label>
          <label>
            Last day of it, at whose end (your time) they may count again; empty: as long as they would have lasted
            <input name="until" type="date" min={today()} />
          </label>
          {progress.state === 'failed' && <Problem error={remedied(progress.error)} />}
          <div class="row">
            <button type="submit" class="danger" aria-disabled={busy}>
              {progress.state === 'failed' ? 'Try again' : `Revoke ${what}`}
            </button>
            <span class="note" role="status">
              {progress.state !== 'asking' && keys.length > 1 && `${progress.done} of ${keys.length} revoked${busy ? '; this stays open until all are' : ''}`}
            </span>
          </div>
        </form>
      )}
    </Dialog>
  );
}

/** In the console it is said by signing in. */
function remedied(error: ApiError): ApiError {
  if (error.status !== 403) return error;
  return new ApiError(403, error.code, error.message, `${error.remedy}: sign out above, and sign in with that one`);
}
