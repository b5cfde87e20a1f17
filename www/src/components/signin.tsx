import { useState } from 'preact/hooks';
import { ApiError, call } from '../api.ts';
import { link } from '../router.ts';
import { setToken } from '../session.ts';
import { Problem } from './states.tsx';

/** Asks for a token where a view needs one. It is tried before it is kept. */
export function SignIn({ title }: { title: string }) {
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const value = String(new FormData(event.currentTarget as HTMLFormElement).get('token') ?? '').trim();
    if (!value) return;
    setBusy(true);
    setError(null);
    try {
      await call('/status', { token: value });
      setToken(value);
    } catch (error) {
      setError(error instanceof ApiError ? error : new ApiError(0, 'failed', String(error), 'try again'));
    }
    setBusy(false);
  };
  return (
    <section class="signin panel" aria-labelledby="signin-title">
      <h1 id="signin-title">{title} needs a token</h1>
      <p>
        The one that was set as <code>READ_TOKEN</code> is enough to look; <code>ADMIN_TOKEN</code> may change things, too. Under <code>npm start</code> it is in <code>.wrangler/dev-token</code>.
      </p>
      <form onSubmit={submit}>
        <label for="token">Token</label>
        <div class="row">
          <input id="token" name="token" type="password" autocomplete="off" spellcheck={false} required aria-describedby="token-note" />
          <button type="submit" class="primary" disabled={busy}>
            {busy ? 'Trying…' : 'Open'}
          </button>
        </div>
        <p id="token-note" class="note">
          It stays in this tab until you sign out; browsers copy it when the tab is duplicated, and may bring it back with a closed tab.
        </p>
      </form>
      {error && <Problem error={error} />}
      <p class="note">
        The <a href={link('playground')}>playground</a> and the <a href={link('rules')}>rules</a> need none.
      </p>
    </section>
  );
}
