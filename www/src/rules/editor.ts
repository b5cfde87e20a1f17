// The editor. It lives in a shadow root, for its style sheets may not be written into the page: there they are adopted.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { yaml } from '@codemirror/lang-yaml';
import { bracketMatching, HighlightStyle, indentService, indentUnit, syntaxHighlighting } from '@codemirror/language';
import { type Diagnostic, lintGutter, nextDiagnostic, previousDiagnostic, setDiagnostics } from '@codemirror/lint';
import { unifiedMergeView } from '@codemirror/merge';
import { Compartment, EditorState, type Text, Transaction } from '@codemirror/state';
import { drawSelection, EditorView, highlightActiveLine, highlightActiveLineGutter, highlightSpecialChars, keymap, lineNumbers } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import type { Exemplar, FieldRow, Finding } from '../core/core.ts';
import { completions, indentAfter } from './completion.ts';
import { exemplarGutter, showExemplars } from './gutter.ts';
import { theme } from './theme.ts';

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: 'var(--accent)' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--suspect)' },
  { tag: [tags.comment, tags.lineComment], color: 'var(--dim)', fontStyle: 'italic' },
  { tag: [tags.keyword, tags.typeName, tags.labelName, tags.meta], color: 'var(--notice)' },
  { tag: [tags.punctuation, tags.separator, tags.bracket, tags.squareBracket, tags.brace], color: 'var(--dim)' },
]);

/**
 * Typing over a selection. Where the browser does that, it tries to keep the style of what was there by a `style` attribute,
 * which the page's Content-Security-Policy refuses with a complaint.
 */
const typeOver = EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { state } = view;
    if (event.inputType !== 'insertText' || event.data === null || view.composing || state.selection.main.empty) return false;
    const { from, to } = state.selection.main;
    const plain = () => state.update(state.replaceSelection(event.data!), { userEvent: 'input.type', scrollIntoView: true });
    const handled = state.facet(EditorView.inputHandler).some((handle) => handle(view, from, to, event.data!, plain));
    if (!handled) view.dispatch(plain());
    event.preventDefault();
    return true;
  },
});

export interface Options {
  path: string;
  text: string;
  fields: readonly FieldRow[];
  onChange(text: string): void;
}

export class Editor {
  #view: EditorView;
  #changes = new Compartment();

  constructor(root: ShadowRoot, { path, text, fields, onChange }: Options) {
    const changed = EditorView.updateListener.of((update) => update.docChanged && onChange(update.state.doc.toString()));
    const language = path.endsWith('.toml') ? [] : [yaml(), autocompletion({ override: [completions(fields)], icons: false })];
    this.#view = new EditorView({
      root,
      parent: root,
      state: EditorState.create({
        doc: text,
        extensions: [
          exemplarGutter,
          lintGutter(),
          lineNumbers(),
          highlightActiveLineGutter(),
          highlightActiveLine(),
          highlightSpecialChars(),
          history(),
          drawSelection(),
          indentUnit.of('  '),
          indentService.of(({ state }, at) => indentAfter(state.sliceDoc(state.doc.lineAt(at).from, at))),
          bracketMatching(),
          closeBrackets(),
          typeOver,
          language,
          syntaxHighlighting(colours),
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ tabindex: '0', 'aria-label': `Text of ${path}`, spellcheck: 'false', autocapitalize: 'off' }),
          keymap.of([...closeBracketsKeymap, ...completionKeymap, ...defaultKeymap, ...historyKeymap, { key: 'F8', run: nextDiagnostic, shift: previousDiagnostic }, indentWithTab]),
          this.#changes.of([]),
          theme,
          changed,
        ],
      }),
    });
  }

  /** Puts another text there, as when changes are discarded. */
  replace(text: string) {
    if (text === this.#view.state.doc.toString()) return;
    this.#view.dispatch({ changes: { from: 0, to: this.#view.state.doc.length, insert: text }, annotations: Transaction.userEvent.of('replace') });
  }

  showFindings(findings: readonly Finding[]) {
    const { doc } = this.#view.state;
    this.#view.dispatch(setDiagnostics(this.#view.state, findings.map((finding) => diagnostic(doc, finding))));
  }

  showExemplars(exemplars: readonly Exemplar[]) {
    this.#view.dispatch({ effects: showExemplars(this.#view.state.doc, exemplars) });
  }

  /** Shows what differs from another text, or no longer. */
  showChanges(original: string | null) {
    const own = original === null ? [] : unifiedMergeView({ original, mergeControls: false, syntaxHighlightDeletions: false });
    this.#view.dispatch({ effects: this.#changes.reconfigure(own) });
  }

  jump(line: number, column: number) {
    const at = position(this.#view.state.doc, line, column);
    this.#view.dispatch({ selection: { anchor: at }, effects: EditorView.scrollIntoView(at, { y: 'center' }) });
    this.#view.focus();
  }

  end() {
    this.#view.destroy();
  }
}

function position(doc: Text, line: number, column: number): number {
  const { from, to } = doc.line(Math.min(Math.max(line, 1), doc.lines));
  return Math.min(from + Math.max(column - 1, 0), to);
}

function diagnostic(doc: Text, { line, column, problem, remedy }: Finding): Diagnostic {
  const from = position(doc, line, column);
  const rest = doc.lineAt(from);
  const word = /^['"]?[\w.|-]*/.exec(rest.text.slice(from - rest.from))![0];
  return { from, to: Math.min(from + Math.max(word.length, 1), rest.to), severity: 'error', message: `${problem}: ${remedy}`, renderMessage: () => message(problem, remedy) };
}

function message(problem: string, remedy: string): Node {
  const node = document.createElement('div');
  const first = document.createElement('strong');
  first.textContent = problem;
  const second = document.createElement('div');
  second.textContent = remedy;
  node.append(first, second);
  return node;
}
