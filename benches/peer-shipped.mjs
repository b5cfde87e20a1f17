// The peer by the shipped rules: a JavaScript Worker that goes by the same bundle. JSON.parse, the text of messages by
// field, lower case, one alternation for all literals; then each signature's condition, what is cheap first, and no
// further than it has to be looked at: a regex runs only where the rest of a condition leaves it open.
const ROLES = { user: 'hedgerow.prompt.user', system: 'gen_ai.system_instructions', developer: 'gen_ai.system_instructions', assistant: 'hedgerow.prompt.assistant', tool: 'hedgerow.prompt.tool' };
const INSTRUCTION = 'hedgerow.prompt.instruction';
const SAID = ['hedgerow.prompt.user', 'gen_ai.system_instructions'];

export class ShippedPeer {
  #decoder = new TextDecoder();
  #literals = new Set();
  #alternation;
  #signatures;

  constructor(bundle) {
    this.#signatures = bundle.signatures.map(({ name, weight, family, condition, selections }) => {
      const tests = Object.fromEntries(Object.entries(selections).map(([own, test]) => [own, this.#test(test)]));
      return { name, weight, family, holds: condition_(condition, tests, selections) };
    });
    const escape = (literal) => literal.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
    this.#alternation = new RegExp([...this.#literals].map(escape).join('|'), 'g');
  }

  /** The names of the signatures that hold. */
  whole(bytes) {
    const request = this.#read(JSON.parse(this.#decoder.decode(bytes)));
    const hits = this.#signatures.filter(({ holds }) => holds(request));
    const sums = new Map();
    for (const { family, weight } of hits) sums.set(family, (sums.get(family) ?? 0) + weight);
    let sum = 0;
    for (const own of sums.values()) sum += Math.min(own, 25);
    return { hits, score: 100 / (1 + 10 ** ((20 - sum) / 10)) };
  }

  #read(value) {
    const texts = new Map();
    let size = 0;
    for (const { role, content } of value.messages) {
      const parts = typeof content === 'string' ? [content] : (content ?? []).map(({ text }) => text).filter((text) => typeof text === 'string');
      const field = ROLES[role] ?? ROLES.user;
      for (const part of parts) {
        const text = part.toLowerCase();
        size += text.length;
        if (!texts.has(field)) texts.set(field, []);
        texts.get(field).push(text);
      }
    }
    texts.set(INSTRUCTION, SAID.flatMap((field) => texts.get(field) ?? []));
    const found = new Map(SAID.map((field) => {
      const own = new Set();
      for (const text of texts.get(field) ?? []) for (const [literal] of text.matchAll(this.#alternation)) own.add(literal);
      return [field, own];
    }));
    found.set(INSTRUCTION, new Set([...found.values()].flatMap((own) => [...own])));
    const values = new Map(Object.entries({
      'gen_ai.operation.name': 'chat', 'http.request.method': 'POST', 'gen_ai.request.max_tokens': value.max_tokens, 'gen_ai.request.temperature': value.temperature,
      'gen_ai.request.choice.count': value.n, 'gen_ai.request.seed': value.seed, 'hedgerow.stream': Number(value.stream ?? false), 'hedgerow.turns': value.messages.filter(({ role }) => role !== 'system').length,
      'hedgerow.tools.count': value.tools?.length ?? 0, 'hedgerow.prompt.size': size, 'hedgerow.logprobs': value.logprobs === undefined ? undefined : Number(value.logprobs), 'hedgerow.top_logprobs': value.top_logprobs,
      'hedgerow.attachments.count': 0, 'hedgerow.reasoning_token.count': 0,
    }));
    return { texts, found, values };
  }

  #test(test) {
    if (test.all) return every(cheapest(test.all).map((own) => this.#test(own)));
    if (test.any) return some(cheapest(test.any).map((own) => this.#test(own)));
    const { field, string, regex, number, exists } = test.field;
    const texts = (request) => request.texts.get(field) ?? [];
    const value = (request) => request.values.get(field);
    const isText = field === INSTRUCTION || Object.values(ROLES).includes(field);
    if (exists !== undefined) return (request) => ((isText ? texts(request).length > 0 : value(request) !== undefined) === exists);
    if (number) return ({ values }) => compares(values.get(field), number);
    if (regex) {
      const [, flags = ''] = /^\(\?([a-z]+)\)/.exec(regex.pattern) ?? [];
      const pattern = new RegExp(regex.pattern.replaceAll('(?-u:.)', '[^]').replace(/^\(\?[a-z]+\)/, ''), flags.includes('i') ? 'i' : '');
      return isText ? (request) => texts(request).some((text) => pattern.test(text)) : () => false;
    }
    if (!string) return () => false;
    const { anchor, value: literal } = string;
    if (!isText) return (request) => value(request) === literal;
    if (anchor === 'startswith') return (request) => texts(request).some((text) => text.startsWith(literal));
    if (anchor === 'endswith') return (request) => texts(request).some((text) => text.endsWith(literal));
    this.#literals.add(literal);
    return ({ found }) => found.get(field)?.has(literal) ?? false;
  }
}

const every = (tests) => (request) => tests.every((test) => test(request));
const some = (tests) => (request) => tests.some((test) => test(request));

/** Those without a regex first. */
const cheapest = (tests) => tests.toSorted((one, other) => regexes(one) - regexes(other));
const regexes = (test) => (test.field?.regex ? 1 : (test.all ?? test.any ?? []).reduce((sum, own) => sum + regexes(own), 0));

/** How dear a condition is, by the tests that it names. */
const cost = (condition, selections) => (condition.is ? regexes(selections[condition.is]) : (condition.all ?? condition.any ?? [condition.not]).reduce((sum, own) => sum + cost(own, selections), 0));

function condition_(condition, tests, selections) {
  const inner = (list) => list.toSorted((one, other) => cost(one, selections) - cost(other, selections)).map((own) => condition_(own, tests, selections));
  if (condition.all) return every(inner(condition.all));
  if (condition.any) return some(inner(condition.any));
  if (condition.not) {
    const [not] = inner([condition.not]);
    return (request) => !not(request);
  }
  return tests[condition.is];
}

function compares(own, { order, value }) {
  if (own === undefined) return false;
  return { equals: own === value, eq: own === value, gt: own > value, gte: own >= value, lt: own < value, lte: own <= value }[order];
}
