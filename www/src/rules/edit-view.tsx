// The editor of a file. Its code is loaded on demand.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { Loading, Problem } from '../components/async-states.tsx';
import { core, type ExemplarResult, type Finding } from '../core/core.ts';
import { currentText, loadError } from './drafts.ts';
import type { Editor } from './editor.ts';
import { diffLines } from './line-diff.ts';

/**
 * A position to which the cursor moves. Each move needs a new object, so that the same position can
 * be requested twice.
 */
export interface CursorTarget {
  path: string;
  line: number;
  column: number;
}

interface Props {
  path: string;
  text: string;
  shipped: string | undefined;
  findings: readonly Finding[];
  exemplars: readonly ExemplarResult[];
  target: CursorTarget | null;
  onChange(text: string): void;
}

export function EditView({ path, text, shipped, findings, exemplars, target, onChange }: Props) {
  const [isComparing, setIsComparing] = useState(false);
  const { host, editor, problem } = useEditor(path, shipped, onChange);
  const original = isComparing && shipped !== undefined ? shipped : null;
  // The editor already contains typed text. Other changes, such as discarding a draft, must be
  // copied into the editor.
  useEffect(() => editor?.replace(currentText(path, shipped)), [editor, text]);
  useEffect(() => editor?.showFindings(findings), [editor, findings]);
  useEffect(() => editor?.showExemplars(exemplars), [editor, exemplars]);
  useEffect(() => {
    if (editor && target?.path === path) editor.jump(target.line, target.column);
  }, [editor, target]);
  return (
    <div class="rule-edit">
      <div class="row">
        <p class="note">
          Tab indents; press Escape and then Tab to leave the editor. Ctrl+Space completes, F8 goes
          to the next problem.
        </p>
        <button
          type="button"
          aria-pressed={isComparing}
          disabled={shipped === undefined}
          onClick={() => setIsComparing(!isComparing)}
        >
          Compare with the shipped text
        </button>
      </div>
      {original !== null && <Changes original={original} text={text} />}
      {problem && <Problem error={problem} />}
      <div class="editor-frame">
        {!editor && !problem && <Loading lines={12} />}
        <div class="editor-host" ref={host} />
      </div>
    </div>
  );
}

/** The changes of a text against the shipped text, line by line. */
function Changes({ original, text }: { original: string; text: string }) {
  const lines = useMemo(() => diffLines(original, text), [original, text]);
  return (
    <>
      <p class="note">
        {lines.length ? 'Changes' : 'No changes'} against the rules built into this console. The
        panel Diff shows the changes against the released rules.
      </p>
      {lines.length > 0 && (
        <pre class="text-diff" tabIndex={0} role="region" aria-label="Changed lines">
          {lines.map(({ kind, text }, index) => {
            const Line = kind === '+' ? 'ins' : kind === '-' ? 'del' : 'span';
            return <Line key={index}>{`${kind} ${text}\n`}</Line>;
          })}
        </pre>
      )}
    </>
  );
}

/** Loads the editor, and opens it in a shadow root of `host`. */
function useEditor(path: string, shipped: string | undefined, onChange: (text: string) => void) {
  const host = useRef<HTMLDivElement>(null);
  const [editor, setEditor] = useState<Editor | null>(null);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const latestOnChange = useRef(onChange);
  latestOnChange.current = onChange;
  useEffect(() => {
    let unmounted = false;
    let opened: Editor | undefined;
    const open = async () => {
      const loadModule = import('./editor.ts').catch(() => Promise.reject(loadError('the editor')));
      const [{ Editor }, fields] = await Promise.all([loadModule, core().fields()]);
      if (unmounted) return;
      const root = host.current!.shadowRoot ?? host.current!.attachShadow({ mode: 'open' });
      opened = new Editor(root, {
        path,
        text: currentText(path, shipped),
        fields,
        onChange: (text) => latestOnChange.current(text),
      });
      setEditor(opened);
    };
    open().catch((error) => {
      if (unmounted) return;
      const message = `the editor could not be opened: ${error}`;
      const known = error instanceof ApiError;
      setProblem(known ? error : new ApiError(0, 'editor', message, 'reload the page'));
    });
    return () => {
      unmounted = true;
      opened?.destroy();
      setEditor(null);
    };
  }, [path]);
  return { host, editor, problem };
}
