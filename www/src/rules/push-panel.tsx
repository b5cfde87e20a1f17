// Offers two ways to publish edited rules: with the command line, which has access to the key, or
// in this page, with a key that the user opens.
import type { ComponentType } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import type { ApiError } from '../api.ts';
import { Loading, Problem } from '../components/async-states.tsx';
import { Copy, Panel } from '../components/ui.tsx';
import { consoleHost, mayAcceptKeys, rejectServiceWorkers } from '../console-host.ts';
import { download } from '../download.ts';
import { link } from '../router.ts';
import { useToken } from '../session.ts';
import { type Files, loadError } from './drafts.ts';
import type { SignProps } from './sign-form.tsx';
import { archiveName, tar } from './tar.ts';

const CHECK = 'npm run hedgerow -- check rules';
const PUSH = 'npm run hedgerow -- push rules --release --note "what changes, and why"';

interface Props extends Omit<SignProps, 'isEdited'> {
  changed: Files;
}

export function PushPanel({ changed, ...props }: Props) {
  const token = useToken();
  const archive = useMemo(() => archiveName(changed), [changed]);
  const isReady = props.bundle !== null;
  const files = Object.keys(changed).length;
  const changedFiles = files === 1 ? '1 changed file' : `${files} changed files`;
  return (
    <Panel title="Push" note="Rules are signed on the command line, where the key is.">
      <ol class="rule-steps">
        <li>
          <p>Download the changed files, and unpack them into your rules:</p>
          <div class="row">
            <button
              type="button"
              disabled={!files || !isReady}
              onClick={() => download(archive, tar(changed))}
            >
              {files ? `Download ${changedFiles}` : 'No file is changed'}
            </button>
            <Command text={`tar -xf ~/Downloads/${archive} -C rules`} isReady={isReady} />
          </div>
        </li>
        <li>
          <p>Check them again:</p>
          <Command text={CHECK} isReady={isReady} />
        </li>
        <li>
          <p>Sign and release them:</p>
          <Command text={PUSH} isReady={isReady} />
        </li>
      </ol>
      {!isReady && (
        <p class="note">You can continue when the check has finished without problems.</p>
      )}
      {token ? (
        <SignSection {...props} isEdited={files > 0} />
      ) : (
        <p class="note">
          With a token that may publish, you can also sign here:{' '}
          <a href={link('overview')}>open the overview</a> with the token, and return.
        </p>
      )}
    </Panel>
  );
}

const Command = ({ text, isReady }: { text: string; isReady: boolean }) => (
  <div class="rule-command">
    <code>{text}</code>
    <span class={isReady ? '' : 'rule-unready'}>
      <Copy text={text} />
    </span>
  </div>
);

/** Explains why the page accepts no key on a host that also has other pages. */
const NoKeyHere = () => (
  <p class="note">
    This page takes no key, because the host has pages of the origin, too: their scripts share the
    web origin of the console, and could read the key. Sign on the command line (<code>{PUSH}</code>
    ), or set <code>CONSOLE_HOST</code>, so that the console has a host of its own.
  </p>
);

/**
 * Loads the form for signing. It is loaded on demand, because it contains the cryptography, and
 * only on a host where no other page can read the key.
 */
function SignSection(props: SignProps) {
  const [SignForm, setSignForm] = useState<ComponentType<SignProps> | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const load = async () => {
    try {
      if (!mayAcceptKeys(await consoleHost())) return setSignForm(() => NoKeyHere);
      await rejectServiceWorkers();
    } catch (error) {
      return setError(error as ApiError);
    }
    import('./sign-form.tsx').then(
      (module) => setSignForm(() => module.default),
      () => setError(loadError('the form for signing')),
    );
  };
  return (
    <details class="rule-sign-section" onToggle={() => void load()}>
      <summary>Sign here with your own key</summary>
      {SignForm ? (
        <SignForm {...props} />
      ) : error ? (
        <Problem error={error} />
      ) : (
        <Loading lines={2} />
      )}
    </details>
  );
}
