// How edited rules get into force: by the command line, which has the key; or here, with a key that is lent to the page.
import type { ComponentType } from 'preact';
import { useState } from 'preact/hooks';
import { Copy, Panel } from '../components/parts.tsx';
import { Loading } from '../components/states.tsx';
import { link } from '../router.ts';
import { useToken } from '../session.ts';
import { download, type Files } from './store.ts';
import { tar } from './tar.ts';

const ARCHIVE = 'hedgerow-rules.tar';
const STEPS = [`tar -xf ~/Downloads/${ARCHIVE} -C rules`, 'npm run hedgerow -- check rules', 'npm run hedgerow -- push rules --release --note "what changes, and why"'];

interface Props {
  changed: Files;
  /** What the check built; null while there is something to mend. */
  bundle: string | null;
  onPublished(): void;
}

export function Push({ changed, bundle, onPublished }: Props) {
  const own = useToken();
  const files = Object.keys(changed).length;
  return (
    <Panel title="Push" note="Rules are signed on the command line, where the key is.">
      <ol class="rule-steps">
        <li>
          <p>Save the changed files, and unpack them over your rules:</p>
          <div class="row">
            <button type="button" disabled={!files || bundle === null} onClick={() => download(ARCHIVE, tar(changed))}>
              {files === 0 ? 'Nothing is changed' : files === 1 ? 'Download 1 changed file' : `Download ${files} changed files`}
            </button>
            <Command text={STEPS[0]!} isReady={bundle !== null} />
          </div>
        </li>
        <li>
          <p>Check them once more:</p>
          <Command text={STEPS[1]!} isReady={bundle !== null} />
        </li>
        <li>
          <p>Sign them and put them in force:</p>
          <Command text={STEPS[2]!} isReady={bundle !== null} />
        </li>
      </ol>
      {bundle === null && <p class="note">This opens when the check is done and there is nothing to mend.</p>}
      {own ? (
        <LentKey bundle={bundle} onPublished={onPublished} />
      ) : (
        <p class="note">
          With a token that may publish you can sign here, too: <a href={link('overview')}>open the overview</a> with it, and come back.
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

type SignView = ComponentType<{ bundle: string | null; onPublished(): void }>;

function LentKey({ bundle, onPublished }: { bundle: string | null; onPublished(): void }) {
  const [Sign, set] = useState<SignView | null>(null);
  const [isBroken, setBroken] = useState(false);
  const load = () => {
    import('./sign.tsx').then(({ default: view }) => set(() => view), () => setBroken(true));
  };
  return (
    <details class="rule-lent" onToggle={load}>
      <summary>Sign here with a key of your own</summary>
      {Sign ? <Sign bundle={bundle} onPublished={onPublished} /> : isBroken ? <p class="note">This part could not be loaded. Reload the page.</p> : <Loading lines={2} />}
    </details>
  );
}
