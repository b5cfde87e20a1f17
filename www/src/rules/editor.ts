// The text editor. It is in a shadow root, where CodeMirror uses adopted style sheets. Outside of a
// shadow root, CodeMirror would add style elements, which the Content-Security-Policy forbids.
import { autocompletion, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { yaml } from '@codemirror/lang-yaml';
import {
  bracketMatching,
  HighlightStyle,
  indentService,
  indentUnit,
  syntaxHighlighting,
} from '@codemirror/language';
import {
  type Diagnostic,
  lintGutter,
  nextDiagnostic,
  previousDiagnostic,
  setDiagnostics,
} from '@codemirror/lint';
import { EditorState, type Text, Transaction } from '@codemirror/state';
import {
  drawSelection,
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from '@codemirror/view';
import { tags } from '@lezer/highlight';
import type { ExemplarResult, FieldSpec, Finding } from '../core/core.ts';
import { completions, indentAfter } from './completion.ts';
import { exemplarGutter, showExemplars } from './exemplar-gutter.ts';
import { editorTheme } from './editor-theme.ts';

const highlighting = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: 'var(--accent)' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--suspect)' },
  { tag: [tags.comment, tags.lineComment], color: 'var(--dim)', fontStyle: 'italic' },
  { tag: [tags.keyword, tags.typeName, tags.labelName, tags.meta], color: 'var(--notice)' },
  {
    tag: [tags.punctuation, tags.separator, tags.bracket, tags.squareBracket, tags.brace],
    color: 'var(--dim)',
  },
]);

/**
 * Replaces a selection when the user types. The browser would keep the style of the selected text
 * in a `style` attribute, which violates the Content-Security-Policy.
 */
const replaceSelection = EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { state } = view;
    const { from, to, empty } = state.selection.main;
    const { data } = event;
    if (event.inputType !== 'insertText' || data === null || view.composing || empty) return false;
    const insert = () =>
      state.update(state.replaceSelection(data), { userEvent: 'input.type', scrollIntoView: true });
    const handlers = state.facet(EditorView.inputHandler);
    const isHandled = handlers.some((handle) => handle(view, from, to, data, insert));
    if (!isHandled) view.dispatch(insert());
    event.preventDefault();
    return true;
  },
});

export interface Options {
  path: string;
  text: string;
  fields: readonly FieldSpec[];
  onChange(text: string): void;
}

export class Editor {
  #view: EditorView;

  constructor(root: ShadowRoot, { path, text, fields, onChange }: Options) {
    const listener = EditorView.updateListener.of((update) => {
      if (update.docChanged) onChange(update.state.doc.toString());
    });
    const completion = autocompletion({ override: [completions(fields)], icons: false });
    const language = path.endsWith('.toml') ? [] : [yaml(), completion];
    const attributes = {
      tabindex: '0',
      'aria-label': `Text of ${path}`,
      spellcheck: 'false',
      autocapitalize: 'off',
    };
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
          indentService.of(({ state }, at) =>
            indentAfter(state.sliceDoc(state.doc.lineAt(at).from, at)),
          ),
          bracketMatching(),
          replaceSelection,
          language,
          syntaxHighlighting(highlighting),
          EditorView.lineWrapping,
          EditorView.contentAttributes.of(attributes),
          keymap.of([
            ...completionKeymap,
            ...defaultKeymap,
            ...historyKeymap,
            { key: 'F8', run: nextDiagnostic, shift: previousDiagnostic },
            indentWithTab,
          ]),
          editorTheme,
          listener,
        ],
      }),
    });
  }

  /** Replaces the text, for example when changes are discarded. */
  replace(text: string) {
    const { doc } = this.#view.state;
    if (text === doc.toString()) return;
    this.#view.dispatch({
      changes: { from: 0, to: doc.length, insert: text },
      annotations: Transaction.userEvent.of('replace'),
    });
  }

  showFindings(findings: readonly Finding[]) {
    const { state } = this.#view;
    const diagnostics = findings.map((finding) => toDiagnostic(state.doc, finding));
    this.#view.dispatch(setDiagnostics(state, diagnostics));
  }

  showExemplars(exemplars: readonly ExemplarResult[]) {
    this.#view.dispatch({ effects: showExemplars(this.#view.state.doc, exemplars) });
  }

  /** Moves the cursor to a line and column, both counted from 1, and focuses the editor. */
  jump(line: number, column: number) {
    const at = offsetOf(this.#view.state.doc, line, column);
    const scroll = EditorView.scrollIntoView(at, { y: 'center' });
    this.#view.dispatch({ selection: { anchor: at }, effects: scroll });
    this.#view.focus();
  }

  destroy() {
    this.#view.destroy();
  }
}

function offsetOf(doc: Text, line: number, column: number): number {
  const { from, to } = doc.line(Math.min(Math.max(line, 1), doc.lines));
  return Math.min(from + Math.max(column - 1, 0), to);
}

/** Converts a finding. The diagnostic covers the word at its position. */
function toDiagnostic(doc: Text, { line, column, problem, remedy }: Finding): Diagnostic {
  const from = offsetOf(doc, line, column);
  const docLine = doc.lineAt(from);
  const word = /^['"]?[\w.|-]*/.exec(docLine.text.slice(from - docLine.from))![0];
  return {
    from,
    to: Math.min(from + Math.max(word.length, 1), docLine.to),
    severity: 'error',
    message: `${problem}: ${remedy}`,
    renderMessage: () => renderMessage(problem, remedy),
  };
}

function renderMessage(problem: string, remedy: string): Node {
  const title = document.createElement('strong');
  title.textContent = problem;
  const text = document.createElement('div');
  text.textContent = remedy;
  const message = document.createElement('div');
  message.append(title, text);
  return message;
}
