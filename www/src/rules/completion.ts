// What may stand where the cursor is. The place is told by indentation, which holds while a file is half written, too.
import type { Completion, CompletionContext, CompletionResult } from '@codemirror/autocomplete';
import type { Text } from '@codemirror/state';
import type { FieldRow } from '../core/core.ts';

const words = (...labels: string[]): Completion[] => labels.map((label) => ({ label, type: 'keyword' }));
const keys = (...labels: string[]): Completion[] => labels.map((label) => ({ label, type: 'property', apply: `${label}: ` }));

const MODIFIERS: Completion[] = [
  ['contains', 'The text stands anywhere in the field.'],
  ['startswith', 'The field begins with it.'],
  ['endswith', 'The field ends with it.'],
  ['all', 'Every value has to be there; otherwise one is enough.'],
  ['cased', 'Upper and lower case matter.'],
  ['re', 'A regular expression, over text in lower case.'],
  ['cidr', 'The address lies in a network.'],
  ['exists', 'Whether there is such a field: true or false.'],
  ['gt', 'More than a number.'],
  ['gte', 'As much as a number, or more.'],
  ['lt', 'Less than a number.'],
  ['lte', 'As much as a number, or less.'],
].map(([label, info]) => ({ label: label!, info: info!, type: 'function' }));

/** Keys by what they stand under. */
const KEYS: Record<string, Completion[]> = {
  '': keys('title', 'id', 'name', 'related', 'status', 'description', 'references', 'author', 'date', 'modified', 'tags', 'logsource', 'detection', 'correlation', 'falsepositives', 'level', 'license', 'custom_attributes'),
  logsource: keys('category', 'product'),
  detection: keys('condition'),
  correlation: keys('type', 'rules', 'group-by', 'timespan', 'condition'),
  'correlation.condition': keys('field', 'gt', 'gte', 'lt', 'lte', 'eq'),
  custom_attributes: keys('hedgerow.weight', 'rsigma.exemplars', 'hedgerow.ttl', 'hedgerow.events_per_value', 'hedgerow.evenness', 'hedgerow.synchronized_start', 'hedgerow.handover', 'hedgerow.distinct_by'),
  'custom_attributes.rsigma.exemplars': keys('name', 'expect', 'event', 'events'),
};

/** Values by their key. */
const VALUES: Record<string, Completion[]> = {
  status: words('stable', 'test', 'experimental', 'deprecated'),
  level: words('informational', 'low', 'medium', 'high', 'critical'),
  expect: words('match', 'no-match'),
  type: words('event_count', 'value_count', 'value_sum', 'value_avg', 'temporal', 'temporal_ordered'),
  category: words('llm_api'),
  product: words('hedgerow'),
};

const KEY = /^(\s*(?:- +)*)(?:'([^']+)'|"([^"]+)"|([\w.|-]+))\s*:(?:\s|$)/;
const LEAD = /^\s*(?:- +)*/;

/** The keys above a place, outermost first. */
export function above(doc: Text, line: number, indent: number): string[] {
  const path: string[] = [];
  for (let number = line - 1, left = indent; number > 0 && left > 0; number--) {
    const { text } = doc.line(number);
    if (text.startsWith('---')) break;
    const key = KEY.exec(text);
    // A list may stand as far left as its key.
    if (!key || key[1]!.length >= left) continue;
    path.unshift((key[2] ?? key[3] ?? key[4])!);
    const lead = /^\s*/.exec(text)![0].length;
    left = lead === key[1]!.length ? lead : lead + 1;
  }
  return path;
}

/** Where a line begins that follows another: below its key, or beside it. */
export function indentAfter(text: string): number {
  const lead = KEY.test(text) ? LEAD.exec(text)![0].length : /^\s*/.exec(text)![0].length;
  return /:\s*$/.test(text) ? lead + 2 : lead;
}

/** The key whose map is open in this line: `event: {hedgerow.turns: 1, `. */
const openMap = (before: string) => /['"]?([\w.-]+)['"]?\s*:\s*\{[^{}]*$/.exec(before)?.[1];

const holdsFields = (path: readonly string[]) => path.at(-1) === 'event' || (path[0] === 'detection' && path.length === 2 && path[1] !== 'condition');
const namesField = (path: readonly string[], key: string) => path[0] === 'correlation' && (path.at(-1) === 'group-by' || key === 'field');

export function completions(fields: readonly FieldRow[]) {
  const names: Completion[] = fields.map(({ name, kind, doc }) => ({ label: name, detail: kind, info: doc, type: 'variable' }));
  return (context: CompletionContext): CompletionResult | null => {
    const line = context.state.doc.lineAt(context.pos);
    const before = line.text.slice(0, context.pos - line.from);
    const word = /[\w.-]*$/.exec(before)![0];
    const from = context.pos - word.length;
    const offer = (options?: readonly Completion[]) => (options && (word || context.explicit || before.endsWith('|')) ? { from, options, validFor: /^[\w.-]*$/ } : null);

    const map = openMap(before);
    const path = above(context.state.doc, line.number, LEAD.exec(before)![0].length);
    if (map) path.push(map);
    if (/[\w.]+\|[\w|]*$/.test(before) && path[0] === 'detection') return offer(MODIFIERS);
    const value = /([\w.-]+)\s*:\s+[\w.-]*$/.exec(before);
    if (value) return offer(namesField(path, value[1]!) ? names : VALUES[value[1]!]);
    const atKey = map ? /[{,]\s*['"]?[\w.-]*$/.test(before) : /^\s*(?:- +)*['"]?[\w.-]*$/.test(before);
    if (!atKey) return null;
    return offer(holdsFields(path) || namesField(path, '') ? names : KEYS[path.join('.')]);
  };
}
