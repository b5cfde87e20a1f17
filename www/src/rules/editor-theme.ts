// The styles of the editor. They use the variables of the page, which also apply in the shadow
// root, so the light and the dark theme work.
import { EditorView } from '@codemirror/view';

/**
 * The long selector is needed because CodeMirror's own rule for the focused editor has a higher
 * specificity than the class alone.
 */
const SELECTION =
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, ' +
  '.cm-selectionBackground';

export const editorTheme = EditorView.theme({
  '&': { height: '100%', color: 'var(--text)', backgroundColor: 'var(--panel)', fontSize: '13px' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.55', overflow: 'auto' },
  '.cm-content': { caretColor: 'var(--text)', padding: '8px 0' },
  '.cm-line': { overflowWrap: 'anywhere' },
  '.cm-cursor, .cm-dropCursor': { borderLeftColor: 'var(--text)' },
  [SELECTION]: { backgroundColor: 'color-mix(in srgb, var(--accent) 28%, transparent)' },
  '.cm-activeLine': { backgroundColor: 'color-mix(in srgb, var(--sunk) 55%, transparent)' },
  '.cm-gutters': {
    backgroundColor: 'var(--sunk)',
    color: 'var(--dim)',
    border: 'none',
    borderRight: '1px solid var(--line)',
  },
  '.cm-activeLineGutter': { backgroundColor: 'var(--line)', color: 'var(--text)' },
  '&.cm-focused .cm-matchingBracket': { backgroundColor: 'var(--mark)' },
  '.cm-gutter-lint': { width: '14px' },
  '.cm-gutter-lint .cm-gutterElement': { padding: '3px 1px' },
  '.cm-exemplars': { width: '20px' },
  '.exemplar': { display: 'block', width: '16px', height: '20px', margin: '0 2px' },
  '.exemplar svg': {
    width: '14px',
    height: '100%',
    fill: 'none',
    strokeWidth: '2.4',
    strokeLinecap: 'round',
    strokeLinejoin: 'round',
  },
  '.exemplar.passed svg': { stroke: 'var(--accent)' },
  '.exemplar.failed svg': { stroke: 'var(--hostile)', strokeWidth: '3' },
  '.cm-tooltip': {
    backgroundColor: 'var(--panel)',
    color: 'var(--text)',
    border: '1px solid var(--line)',
    borderRadius: '6px',
    maxWidth: 'min(440px, 92vw)',
    boxShadow: '0 4px 16px rgb(0 0 0 / 0.18)',
    overflowWrap: 'anywhere',
  },
  '.cm-tooltip-lint': { padding: '2px' },
  '.cm-diagnostic': { padding: '5px 10px', fontFamily: 'system-ui, sans-serif', fontSize: '13px' },
  '.cm-diagnostic-error': { borderLeft: '4px solid var(--hostile)' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul': {
    fontFamily: 'var(--mono)',
    maxHeight: '240px',
    maxWidth: 'min(420px, 92vw)',
  },
  '.cm-tooltip.cm-tooltip-autocomplete > ul > li': { padding: '4px 8px' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': {
    backgroundColor: 'var(--accent)',
    color: 'var(--on-accent)',
  },
  '.cm-completionDetail': { color: 'var(--dim)', fontStyle: 'normal' },
  'li[aria-selected] .cm-completionDetail': { color: 'inherit' },
  '.cm-completionMatchedText': { fontWeight: '700' },
  '.cm-completionInfo': {
    fontFamily: 'system-ui, sans-serif',
    fontSize: '13px',
    padding: '6px 10px',
  },
});
