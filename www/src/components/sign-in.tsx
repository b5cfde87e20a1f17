import { useState } from 'preact/hooks';
import { ApiError, call } from '../api.ts';
import { rejectServiceWorkers } from '../console-host.ts';
import { link } from '../router.ts';
import { setToken } from '../session.ts';
import { Problem } from './async-states.tsx';

/** Asks for a token. Stores the token only after the API has accepted it. */
export function SignIn({ title }: { title: string }) {
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const value = String(form.get('token') ?? '').trim();
    if (!value) return;
    setBusy(true);
    setError(null);
    try {
      await rejectServiceWorkers();
      await call('/status', { token: value });
      setToken(value);
    } catch (error) {
      const failure =
        error instanceof ApiError ? error : new ApiError(0, 'failed', String(error), 'try again');
      setError(failure);
    }
    setBusy(false);
  };
  return (
    <section class="signin panel" aria-labelledby="signin-title">
      <h1 id="signin-title">{title} needs a token</h1>
      <p>
        <code>READ_TOKEN</code> is enough to view; <code>ADMIN_TOKEN</code> also allows changes.
        With <code>npm start</code>, a token is in <code>.wrangler/dev-token</code>.
      </p>
      <form onSubmit={submit}>
        <label for="token">Token</label>
        <div class="row">
          <input
            id="token"
            name="token"
            type="password"
            autocomplete="off"
            spellcheck={false}
            required
            aria-describedby="token-note"
          />
          <button type="submit" class="primary" disabled={busy}>
            {busy ? 'Trying…' : 'Open'}
          </button>
        </div>
        <p id="token-note" class="note">
          This tab stores the token until you sign out. Browsers copy it when you duplicate the tab,
          and may restore it when you reopen a closed tab.
        </p>
      </form>
      {error && <Problem error={error} />}
      <p class="note">
        You can use the <a href={link('playground')}>playground</a> and the{' '}
        <a href={link('rules')}>rules</a> without a token.
      </p>
    </section>
  );
}
