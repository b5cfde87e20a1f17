// Rule files as data, for the page that explains them. What is wrong in a file the check says; here whatever can be
// read is shown.
import { isObject } from '../playground/problem.ts';
import { documents } from './yaml.ts';

/** One comparison: `hedgerow.prompt.user` `contains any of` the values. */
export interface Test {
  field: string;
  how: string;
  values: string[];
}

/** Holds where all tests of one of its alternatives do. */
export interface Selection {
  name: string;
  alternatives: Test[][];
}

export interface Event {
  offset: string;
  fields: [string, string][];
}

export interface Sample {
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
  correlation: [string, string][];
  samples: Sample[];
}

type Map = Record<string, unknown>;

/** The rules of a file, most often one; throws where it is no YAML. */
export const read = (text: string): Rule[] => documents(text).map((document) => rule(map(document)));

function rule(own: Map): Rule {
  const attributes = map(own.custom_attributes);
  const { condition, ...selections } = map(own.detection);
  return {
    title: plain(own.title),
    name: plain(own.name),
    status: plain(own.status),
    level: plain(own.level),
    weight: plain(attributes['hedgerow.weight']),
    description: plain(own.description),
    author: plain(own.author),
    date: plain(own.date),
    id: plain(own.id),
    tags: list(own.tags).map(plain),
    references: list(own.references).map(plain),
    falsePositives: list(own.falsepositives).map(plain),
    selections: Object.entries(selections).map(([name, value]) => ({ name, alternatives: alternatives(value) })),
    condition: list(condition).map(plain).join(' or '),
    correlation: correlation(map(own.correlation), attributes),
    samples: list(attributes['rsigma.exemplars']).map((sample) => exemplar(map(sample))),
  };
}

/** A map asks for all of its tests; in a list one entry is enough. */
function alternatives(value: unknown): Test[][] {
  return list(value).map((one) => (isObject(one) ? Object.entries(one).map(([key, values]) => test(key, values)) : [{ field: 'any text', how: 'contains', values: [plain(one)] }]));
}

const WORDS: Record<string, string> = {
  contains: 'contains',
  startswith: 'begins with',
  endswith: 'ends with',
  re: 'matches',
  cidr: 'lies in',
  exists: 'exists:',
  gt: 'is more than',
  gte: 'is at least',
  lt: 'is less than',
  lte: 'is at most',
};

function test(key: string, value: unknown): Test {
  const [field = '', ...modifiers] = key.split('|');
  const values = list(value).map(plain);
  const verb = WORDS[modifiers.find((modifier) => modifier in WORDS) ?? ''] ?? 'is';
  const many = values.length > 1 ? (modifiers.includes('all') ? ' all of' : ' any of') : '';
  return { field, how: `${verb}${many}${modifiers.includes('cased') ? ' (case matters)' : ''}`, values };
}

const COUNTS: Record<string, string> = {
  event_count: 'Requests are counted',
  value_count: 'Different values are counted',
  value_sum: 'Values are summed',
  value_avg: 'Values are averaged',
  temporal: 'All of the rules hold within the time',
  temporal_ordered: 'All of the rules hold in this order',
};

function correlation(own: Map, attributes: Map): [string, string][] {
  if (!Object.keys(own).length) return [];
  const type = plain(own.type);
  const bound = isObject(own.condition) ? Object.entries(own.condition).map(([name, value]) => (name === 'field' ? plain(value) : `${WORDS[name] ?? name} ${plain(value)}`)).join(' ') : plain(own.condition);
  const { 'hedgerow.weight': _weight, 'rsigma.exemplars': _exemplars, ...others } = attributes;
  const rows: [string, string][] = [
    ['Kind', `${COUNTS[type] ?? type} (${type})`],
    ['Rules', list(own.rules).map(plain).join(', ')],
    ['Grouped by', list(own['group-by']).map(plain).join(', ')],
    ['Within', plain(own.timespan)],
    ['Holds where', bound],
    ...Object.entries(others).map(([name, value]): [string, string] => [name, plain(value)]),
  ];
  return rows.filter(([, value]) => value);
}

function exemplar(own: Map): Sample {
  const events = own.events === undefined ? [event(own.event, '')] : list(own.events).map((one) => event(map(one).event, plain(map(one).offset)));
  return { name: plain(own.name), expected: plain(own.expect), events };
}

const event = (value: unknown, offset: string): Event => ({ offset, fields: Object.entries(map(value)).map(([name, value]) => [name, plain(value)]) });

const map = (value: unknown): Map => (isObject(value) ? value : {});
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : value === undefined || value === null ? [] : [value]);

function plain(value: unknown): string {
  if (value === undefined || value === null) return '';
  if (Array.isArray(value)) return value.map(plain).join(', ');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
