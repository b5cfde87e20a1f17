// The editor's place in the page. The editor itself is loaded when it is opened first.
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { Loading, Problem } from '../components/states.tsx';
import { core, type Exemplar, type Finding } from '../core/core.ts';
import type { Editor } from './editor.ts';
import { notLoaded, textNow } from './store.ts';

/** Where to go in a file; another object each time. */
export interface Spot {
  path: string;
  line: number;
  column: number;
}

interface Props {
  path: string;
  text: string;
  shipped: string | undefined;
  findings: readonly Finding[];
  exemplars: readonly Exemplar[];
  spot: Spot | null;
  onChange(text: string): void;
}

export function Edit({ path, text, shipped, findings, exemplars, spot, onChange }: Props) {
  const [compared, setCompared] = useState(false);
  const { host, editor, problem } = useEditor(path, shipped, onChange);
  // Of what is typed the editor knows before the page does; only what is discarded it has to be told.
  useEffect(() => editor?.replace(textNow(path, shipped)), [editor, text]);
  useEffect(() => editor?.showFindings(findings), [editor, findings]);
  useEffect(() => editor?.showExemplars(exemplars), [editor, exemplars]);
  useEffect(() => editor?.showChanges(compared && shipped !== undefined ? shipped : null), [editor, compared, shipped]);
  useEffect(() => {
    if (editor && spot?.path === path) editor.jump(spot.line, spot.column);
  }, [editor, spot]);
  return (
    <div class="rule-edit">
      <div class="row">
        <p class="note">Tab indents; press Escape and then Tab to leave the editor. Ctrl+Space completes, F8 goes to the next finding.</p>
        <button type="button" aria-pressed={compared} disabled={shipped === undefined} onClick={() => setCompared(!compared)}>
          Compare with the shipped text
        </button>
      </div>
      {compared && shipped !== undefined && <p class="note">Marked is what differs from the text that this console was built with. What differs from the release is told under Difference.</p>}
      {problem && <Problem error={problem} />}
      <div class="editor-frame">
        {!editor && !problem && <Loading lines={12} />}
        <div class="editor-host" ref={host} />
      </div>
    </div>
  );
}

function useEditor(path: string, shipped: string | undefined, onChange: (text: string) => void) {
  const host = useRef<HTMLDivElement>(null);
  const [editor, set] = useState<Editor | null>(null);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const latest = useRef(onChange);
  latest.current = onChange;
  useEffect(() => {
    let ended = false;
    let own: Editor | undefined;
    const open = async () => {
      const [{ Editor }, fields] = await Promise.all([import('./editor.ts').catch(() => Promise.reject(notLoaded('the editor'))), core().fields()]);
      if (ended) return;
      const root = host.current!.shadowRoot ?? host.current!.attachShadow({ mode: 'open' });
      own = new Editor(root, { path, text: textNow(path, shipped), fields, onChange: (text) => latest.current(text) });
      set(own);
    };
    open().catch((error) => ended || setProblem(error instanceof ApiError ? error : new ApiError(0, 'editor', `the editor could not be opened: ${error}`, 'reload the page')));
    return () => {
      ended = true;
      own?.end();
      set(null);
    };
  }, [path]);
  return { host, editor, problem };
}
