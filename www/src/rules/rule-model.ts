// Parses rule files for the page that shows them. Skips parts that cannot be parsed, because the
// check reports problems.
import { isObject } from '../json.ts';
import { parseDocuments } from './yaml.ts';

/** A comparison, such as `hedgerow.prompt.user` `contains any of` the values. */
export interface Comparison {
  field: string;
  relation: string;
  values: string[];
}

/** A selection holds if all comparisons of one of its alternatives hold. */
export interface Selection {
  name: string;
  alternatives: Comparison[][];
}

export interface Event {
  offset: string;
  fields: [string, string][];
}

export interface Exemplar {
  name: string;
  expected: string;
  events: Event[];
}

export interface Rule {
  title: string;
  name: string;
  status: string;
  level: string;
  weight: string;
  description: string;
  author: string;
  date: string;
  id: string;
  tags: string[];
  references: string[];
  falsePositives: string[];
  selections: Selection[];
  condition: string;
  /** Rows of the section Correlation; empty for other rules. */
  correlation: [string, string][];
  exemplars: Exemplar[];
}

type Mapping = Record<string, unknown>;

/** Parses the rules of a file; usually there is one. Throws if the file is not YAML. */
export const parseRules = (text: string): Rule[] =>
  parseDocuments(text).map((document) => toRule(toMapping(document)));

function toRule(document: Mapping): Rule {
  const attributes = toMapping(document.custom_attributes);
  const { condition, ...selections } = toMapping(document.detection);
  return {
    title: toText(document.title),
    name: toText(document.name),
    status: toText(document.status),
    level: toText(document.level),
    weight: toText(attributes['hedgerow.weight']),
    description: toText(document.description),
    author: toText(document.author),
    date: toText(document.date),
    id: toText(document.id),
    tags: toList(document.tags).map(toText),
    references: toList(document.references).map(toText),
    falsePositives: toList(document.falsepositives).map(toText),
    selections: Object.entries(selections).map(([name, value]) => ({
      name,
      alternatives: toAlternatives(value),
    })),
    condition: toList(condition).map(toText).join(' or '),
    correlation: correlationRows(toMapping(document.correlation), attributes),
    exemplars: toList(attributes['rsigma.exemplars']).map((exemplar) =>
      toExemplar(toMapping(exemplar)),
    ),
  };
}

/**
 * Converts a selection to alternatives. In a mapping, all comparisons must hold. In a list, one
 * entry must hold.
 */
function toAlternatives(value: unknown): Comparison[][] {
  return toList(value).map((alternative) => {
    if (!isObject(alternative)) {
      return [{ field: 'any text', relation: 'contains', values: [toText(alternative)] }];
    }
    return Object.entries(alternative).map(([key, values]) => toComparison(key, values));
  });
}

const RELATIONS: Record<string, string> = {
  contains: 'contains',
  startswith: 'starts with',
  endswith: 'ends with',
  re: 'matches',
  cidr: 'is in',
  exists: 'exists:',
  gt: 'is more than',
  gte: 'is at least',
  lt: 'is less than',
  lte: 'is at most',
};

function toComparison(key: string, value: unknown): Comparison {
  const [field = '', ...modifiers] = key.split('|');
  const values = toList(value).map(toText);
  const verb = RELATIONS[modifiers.find((modifier) => modifier in RELATIONS) ?? ''] ?? 'is';
  const quantifier = modifiers.includes('all') ? ' all of' : ' any of';
  const caseNote = modifiers.includes('cased') ? ' (case-sensitive)' : '';
  return { field, relation: `${verb}${values.length > 1 ? quantifier : ''}${caseNote}`, values };
}

const CORRELATION_TYPES: Record<string, string> = {
  event_count: 'Number of requests',
  value_count: 'Number of different values',
  value_sum: 'Sum of values',
  value_avg: 'Mean of values',
  temporal: 'All rules hold within the time',
  temporal_ordered: 'All rules hold in this order',
};

function correlationRows(correlation: Mapping, attributes: Mapping): [string, string][] {
  if (!Object.keys(correlation).length) return [];
  const type = toText(correlation.type);
  const { 'hedgerow.weight': _weight, 'rsigma.exemplars': _exemplars, ...others } = attributes;
  const rows: [string, string][] = [
    ['Type', `${CORRELATION_TYPES[type] ?? type} (${type})`],
    ['Rules', toList(correlation.rules).map(toText).join(', ')],
    ['Grouped by', toList(correlation['group-by']).map(toText).join(', ')],
    ['Within', toText(correlation.timespan)],
    ['Condition', conditionText(correlation.condition)],
    ...Object.entries(others).map(([name, value]): [string, string] => [name, toText(value)]),
  ];
  return rows.filter(([, value]) => value);
}

function conditionText(condition: unknown): string {
  if (!isObject(condition)) return toText(condition);
  const parts = Object.entries(condition).map(([name, value]) =>
    name === 'field' ? toText(value) : `${RELATIONS[name] ?? name} ${toText(value)}`,
  );
  return parts.join(' ');
}

function toExemplar(exemplar: Mapping): Exemplar {
  const events =
    exemplar.events === undefined
      ? [toEvent(exemplar.event, '')]
      : toList(exemplar.events)
          .map(toMapping)
          .map(({ event, offset }) => toEvent(event, toText(offset)));
  return { name: toText(exemplar.name), expected: toText(exemplar.expect), events };
}

const toEvent = (value: unknown, offset: string): Event => ({
  offset,
  fields: Object.entries(toMapping(value)).map(([name, value]) => [name, toText(value)]),
});

const toMapping = (value: unknown): Mapping => (isObject(value) ? value : {});

function toList(value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  return value === undefined || value === null ? [] : [value];
}

function toText(value: unknown): string {
  if (value === undefined || value === null) return '';
  if (Array.isArray(value)) return value.map(toText).join(', ');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
