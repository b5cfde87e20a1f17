// How edited rules get into force: by the command line, which has the key; or here, with a key that is lent to the page.
import type { ComponentType } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { Copy, Panel } from '../components/parts.tsx';
import { Loading, Problem } from '../components/states.tsx';
import { link } from '../router.ts';
import { useToken } from '../session.ts';
import type { SignProps } from './sign.tsx';
import { download, type Files, notLoaded } from './store.ts';
import { archiveName, tar } from './tar.ts';

const CHECK = 'npm run hedgerow -- check rules';
const PUSH = 'npm run hedgerow -- push rules --release --note "what changes, and why"';

interface Props extends Omit<SignProps, 'isEdited'> {
  changed: Files;
}

export function Push({ changed, ...props }: Props) {
  const own = useToken();
  const { bundle } = props;
  const archive = useMemo(() => archiveName(changed), [changed]);
  const files = Object.keys(changed).length;
  return (
    <Panel title="Push" note="Rules are signed on the command line, where the key is.">
      <ol class="rule-steps">
        <li>
          <p>Save the changed files, and unpack them over your rules:</p>
          <div class="row">
            <button type="button" disabled={!files || bundle === null} onClick={() => download(archive, tar(changed))}>
              {files === 0 ? 'Nothing is changed' : files === 1 ? 'Download 1 changed file' : `Download ${files} changed files`}
            </button>
            <Command text={`tar -xf ~/Downloads/${archive} -C rules`} isReady={bundle !== null} />
          </div>
        </li>
        <li>
          <p>Check them once more:</p>
          <Command text={CHECK} isReady={bundle !== null} />
        </li>
        <li>
          <p>Sign them and put them in force:</p>
          <Command text={PUSH} isReady={bundle !== null} />
        </li>
      </ol>
      {bundle === null && <p class="note">This opens when the check is done and there is nothing to mend.</p>}
      {own ? (
        <LentKey {...props} isEdited={files > 0} />
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

function LentKey(props: SignProps) {
  const [Sign, set] = useState<ComponentType<SignProps> | null>(null);
  const [isBroken, setBroken] = useState(false);
  const load = () => {
    import('./sign.tsx').then(({ default: view }) => set(() => view), () => setBroken(true));
  };
  return (
    <details class="rule-lent" onToggle={load}>
      <summary>Sign here with a key of your own</summary>
      {Sign ? <Sign {...props} /> : isBroken ? <Problem error={notLoaded('signing')} /> : <Loading lines={2} />}
    </details>
  );
}
