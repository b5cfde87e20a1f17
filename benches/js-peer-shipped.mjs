// The peer of the benchmark with the shipped rules: evaluates a bundle as a JavaScript Worker
// could. It calls JSON.parse, collects the lower-case text of messages by field, searches for all
// literals with one regex alternation, and evaluates the condition of each signature. Cheap tests
// run first and evaluation stops early, so a regex runs only if the other tests leave the condition
// open.
const ROLES = {
  user: 'hedgerow.prompt.user',
  system: 'gen_ai.system_instructions',
  developer: 'gen_ai.system_instructions',
  assistant: 'hedgerow.prompt.assistant',
  tool: 'hedgerow.prompt.tool',
};
const INSTRUCTION = 'hedgerow.prompt.instruction';
/**
 * The fields that `hedgerow.prompt.instruction` combines. Only literals of these fields are
 * searched for.
 */
const INSTRUCTION_FIELDS = ['hedgerow.prompt.user', 'gen_ai.system_instructions'];

export class ShippedJsPeer {
  #decoder = new TextDecoder();
  #literals = new Set();
  #alternation;
  #signatures;

  constructor(bundle) {
    this.#signatures = bundle.signatures.map(({ name, weight, family, condition, selections }) => {
      const tests = Object.fromEntries(
        Object.entries(selections).map(([selection, value]) => [
          selection,
          this.#compileSelection(value),
        ]),
      );
      return { name, weight, family, holds: compileCondition(condition, tests, selections) };
    });
    const escape = (literal) => literal.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
    this.#alternation = new RegExp([...this.#literals].map(escape).join('|'), 'g');
  }

  /** Returns the signatures whose conditions hold, and the score. */
  runAll(bytes) {
    const request = this.#read(JSON.parse(this.#decoder.decode(bytes)));
    const hits = this.#signatures.filter(({ holds }) => holds(request));
    const sums = new Map();
    for (const { family, weight } of hits) sums.set(family, (sums.get(family) ?? 0) + weight);
    let total = 0;
    for (const sum of sums.values()) total += Math.min(sum, 25);
    return { hits, score: 100 / (1 + 10 ** ((20 - total) / 10)) };
  }

  #read(value) {
    const texts = new Map();
    let size = 0;
    for (const { role, content } of value.messages) {
      const parts =
        typeof content === 'string'
          ? [content]
          : (content ?? []).map(({ text }) => text).filter((text) => typeof text === 'string');
      const field = ROLES[role] ?? ROLES.user;
      for (const part of parts) {
        const text = part.toLowerCase();
        size += text.length;
        if (!texts.has(field)) texts.set(field, []);
        texts.get(field).push(text);
      }
    }
    texts.set(
      INSTRUCTION,
      INSTRUCTION_FIELDS.flatMap((field) => texts.get(field) ?? []),
    );
    const literals = new Map(
      INSTRUCTION_FIELDS.map((field) => {
        const present = new Set();
        for (const text of texts.get(field) ?? [])
          for (const [literal] of text.matchAll(this.#alternation)) present.add(literal);
        return [field, present];
      }),
    );
    literals.set(INSTRUCTION, new Set([...literals.values()].flatMap((present) => [...present])));
    const values = new Map(
      Object.entries({
        'gen_ai.operation.name': 'chat',
        'http.request.method': 'POST',
        'gen_ai.request.max_tokens': value.max_tokens,
        'gen_ai.request.temperature': value.temperature,
        'gen_ai.request.choice.count': value.n,
        'gen_ai.request.seed': value.seed,
        'hedgerow.stream': Number(value.stream ?? false),
        'hedgerow.turns': value.messages.filter(({ role }) => role !== 'system').length,
        'hedgerow.tools.count': value.tools?.length ?? 0,
        'hedgerow.prompt.size': size,
        'hedgerow.logprobs': value.logprobs === undefined ? undefined : Number(value.logprobs),
        'hedgerow.top_logprobs': value.top_logprobs,
        'hedgerow.attachments.count': 0,
        'hedgerow.reasoning_token.count': 0,
      }),
    );
    return { texts, literals, values };
  }

  #compileSelection(selection) {
    if (selection.all)
      return every(cheapestFirst(selection.all).map((part) => this.#compileSelection(part)));
    if (selection.any)
      return some(cheapestFirst(selection.any).map((part) => this.#compileSelection(part)));
    const { field, string, regex, number, exists } = selection.field;
    const texts = (request) => request.texts.get(field) ?? [];
    const value = (request) => request.values.get(field);
    const isText = field === INSTRUCTION || Object.values(ROLES).includes(field);
    if (exists !== undefined)
      return (request) =>
        (isText ? texts(request).length > 0 : value(request) !== undefined) === exists;
    if (number) return ({ values }) => compare(values.get(field), number);
    if (regex) {
      const [, flags = ''] = /^\(\?([a-z]+)\)/.exec(regex.pattern) ?? [];
      const pattern = new RegExp(
        regex.pattern.replaceAll('(?-u:.)', '[^]').replace(/^\(\?[a-z]+\)/, ''),
        flags.includes('i') ? 'i' : '',
      );
      return isText ? (request) => texts(request).some((text) => pattern.test(text)) : () => false;
    }
    if (!string) return () => false;
    const { string_match: match, value: literal } = string;
    if (!isText) return (request) => value(request) === literal;
    if (match === 'startswith')
      return (request) => texts(request).some((text) => text.startsWith(literal));
    if (match === 'endswith')
      return (request) => texts(request).some((text) => text.endsWith(literal));
    this.#literals.add(literal);
    return ({ literals }) => literals.get(field)?.has(literal) ?? false;
  }
}

const every = (tests) => (request) => tests.every((test) => test(request));
const some = (tests) => (request) => tests.some((test) => test(request));

/** Returns the selections in ascending order of their number of regexes. */
const cheapestFirst = (selections) => selections.toSorted((a, b) => regexCount(a) - regexCount(b));
const regexCount = (selection) =>
  selection.field?.regex
    ? 1
    : (selection.all ?? selection.any ?? []).reduce((sum, part) => sum + regexCount(part), 0);

/**
 * Returns the cost of a condition: the number of regexes in the selections that the condition
 * names.
 */
const cost = (condition, selections) =>
  condition.is
    ? regexCount(selections[condition.is])
    : (condition.all ?? condition.any ?? [condition.not]).reduce(
        (sum, part) => sum + cost(part, selections),
        0,
      );

function compileCondition(condition, tests, selections) {
  const compileParts = (parts) =>
    parts
      .toSorted((a, b) => cost(a, selections) - cost(b, selections))
      .map((part) => compileCondition(part, tests, selections));
  if (condition.all) return every(compileParts(condition.all));
  if (condition.any) return some(compileParts(condition.any));
  if (condition.not) {
    const [test] = compileParts([condition.not]);
    return (request) => !test(request);
  }
  return tests[condition.is];
}

function compare(actual, { comparator, value }) {
  if (actual === undefined) return false;
  return {
    eq: actual === value,
    gt: actual > value,
    gte: actual >= value,
    lt: actual < value,
    lte: actual <= value,
  }[comparator];
}
