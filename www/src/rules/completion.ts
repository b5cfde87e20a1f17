// Completion of keys, values, fields and modifiers. Determines the context from the indentation,
// which also works for incomplete files.
import type { Completion, CompletionContext, CompletionResult } from '@codemirror/autocomplete';
import type { Text } from '@codemirror/state';
import type { FieldSpec } from '../core/core.ts';

const values = (...labels: string[]): Completion[] =>
  labels.map((label) => ({ label, type: 'keyword' }));
const keys = (...labels: string[]): Completion[] =>
  labels.map((label) => ({ label, type: 'property', apply: `${label}: ` }));

const MODIFIERS: Completion[] = [
  ['contains', 'The field contains the text.'],
  ['startswith', 'The field starts with the text.'],
  ['endswith', 'The field ends with the text.'],
  ['all', 'All values must match; otherwise one is enough.'],
  ['cased', 'The comparison is case-sensitive.'],
  ['re', 'A regular expression over lower-case text.'],
  ['cidr', 'The address is in the network.'],
  ['exists', 'Whether the field exists: true or false.'],
  ['gt', 'More than the number.'],
  ['gte', 'At least the number.'],
  ['lt', 'Less than the number.'],
  ['lte', 'At most the number.'],
].map(([label, info]) => ({ label: label!, info: info!, type: 'function' }));

/** Keys by the path of their parent. */
const KEYS: Record<string, Completion[]> = {
  '': keys(
    'title',
    'id',
    'name',
    'related',
    'status',
    'description',
    'references',
    'author',
    'date',
    'modified',
    'tags',
    'logsource',
    'detection',
    'correlation',
    'falsepositives',
    'level',
    'license',
    'custom_attributes',
  ),
  logsource: keys('category', 'product'),
  detection: keys('condition'),
  correlation: keys('type', 'rules', 'group-by', 'timespan', 'condition'),
  'correlation.condition': keys('field', 'gt', 'gte', 'lt', 'lte', 'eq'),
  custom_attributes: keys(
    'hedgerow.weight',
    'rsigma.exemplars',
    'hedgerow.ttl',
    'hedgerow.only',
    'hedgerow.events_per_value',
    'hedgerow.max_events_per_value',
    'hedgerow.evenness',
    'hedgerow.synchronized_start',
    'hedgerow.handover',
    'hedgerow.distinct_by',
  ),
  'custom_attributes.rsigma.exemplars': keys('name', 'expect', 'event', 'events'),
};

/** Values by key. */
const VALUES: Record<string, Completion[]> = {
  status: values('stable', 'test', 'experimental', 'deprecated'),
  level: values('informational', 'low', 'medium', 'high', 'critical'),
  expect: values('match', 'no-match'),
  type: values(
    'event_count',
    'value_count',
    'value_sum',
    'value_avg',
    'temporal',
    'temporal_ordered',
  ),
  category: values('llm_api'),
  product: values('hedgerow'),
};

const KEY = /^(\s*(?:- +)*)(?:'([^']+)'|"([^"]+)"|([\w.|-]+))\s*:(?:\s|$)/;
const LEAD = /^\s*(?:- +)*/;

/** Returns the keys of the parents of a line with the given indentation, outermost first. */
function parentKeys(doc: Text, line: number, indent: number): string[] {
  const path: string[] = [];
  for (let number = line - 1, left = indent; number > 0 && left > 0; number--) {
    const { text } = doc.line(number);
    if (text.startsWith('---')) break;
    const key = KEY.exec(text);
    // A list may have the same indentation as its key.
    if (!key || key[1]!.length >= left) continue;
    path.unshift((key[2] ?? key[3] ?? key[4])!);
    const lead = /^\s*/.exec(text)![0].length;
    left = lead === key[1]!.length ? lead : lead + 1;
  }
  return path;
}

/** Returns the indentation of the line after `text`. It is deeper after a key without a value. */
export function indentAfter(text: string): number {
  const lead = KEY.test(text) ? LEAD.exec(text)![0].length : /^\s*/.exec(text)![0].length;
  return /:\s*$/.test(text) ? lead + 2 : lead;
}

/** Returns the key of an open flow mapping, such as `event` for `event: {hedgerow.turns: 1, `. */
const openMapping = (before: string) => /['"]?([\w.-]+)['"]?\s*:\s*\{[^{}]*$/.exec(before)?.[1];

/** Returns whether the keys below `path` are fields. */
const hasFieldKeys = (path: readonly string[]) =>
  path.at(-1) === 'event' ||
  (path[0] === 'detection' && path.length === 2 && path[1] !== 'condition');

/** Returns whether the value of `key` below `path` is the name of a field. */
const hasFieldValue = (path: readonly string[], key: string) =>
  path[0] === 'correlation' && (path.at(-1) === 'group-by' || key === 'field');

/** Returns the completion source of the editor. */
export function completions(fields: readonly FieldSpec[]) {
  const fieldNames: Completion[] = fields.map(({ name, kind, doc }) => ({
    label: name,
    detail: kind,
    info: doc,
    type: 'variable',
  }));
  return (context: CompletionContext): CompletionResult | null => {
    const { doc } = context.state;
    const line = doc.lineAt(context.pos);
    const before = line.text.slice(0, context.pos - line.from);
    const word = /[\w.-]*$/.exec(before)![0];
    const isWanted = word || context.explicit || before.endsWith('|');
    const from = context.pos - word.length;
    const offer = (options?: readonly Completion[]) =>
      options && isWanted ? { from, options, validFor: /^[\w.-]*$/ } : null;

    const mapping = openMapping(before);
    const path = parentKeys(doc, line.number, LEAD.exec(before)![0].length);
    if (mapping) path.push(mapping);
    if (/[\w.]+\|[\w|]*$/.test(before) && path[0] === 'detection') return offer(MODIFIERS);
    const key = /([\w.-]+)\s*:\s+[\w.-]*$/.exec(before)?.[1];
    if (key) return offer(hasFieldValue(path, key) ? fieldNames : VALUES[key]);
    const keyStart = mapping ? /[{,]\s*['"]?[\w.-]*$/ : /^\s*(?:- +)*['"]?[\w.-]*$/;
    if (!keyStart.test(before)) return null;
    const isField = hasFieldKeys(path) || hasFieldValue(path, '');
    return offer(isField ? fieldNames : KEYS[path.join('.')]);
  };
}
