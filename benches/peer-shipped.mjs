// The peer by the shipped rules: a JavaScript Worker that goes by the same bundle. JSON.parse, the text of messages by
// field, lower case, one alternation for the literals of a field; then each signature's condition, no further than it
// has to be looked at, and a regex only where a condition comes to it.
const ROLES = { user: 'hedgerow.prompt.user', system: 'gen_ai.system_instructions', developer: 'gen_ai.system_instructions', assistant: 'hedgerow.prompt.assistant', tool: 'hedgerow.prompt.tool' };
const INSTRUCTION = 'hedgerow.prompt.instruction';
const SAID = ['hedgerow.prompt.user', 'gen_ai.system_instructions'];

export class ShippedPeer {
  #decoder = new TextDecoder();
  #literals = new Map();
  #alternations = new Map();
  #signatures;

  constructor(bundle) {
    this.#signatures = bundle.signatures.map(({ name, weight, family, condition, selections }) => {
      const tests = Object.fromEntries(Object.entries(selections).map(([own, test]) => [own, this.#test(test)]));
      return { name, weight, family, holds: condition_(condition, tests) };
    });
    const escape = (literal) => literal.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
    for (const [field, literals] of this.#literals) this.#alternations.set(field, new RegExp([...literals].map(escape).join('|'), 'g'));
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
    const found = new Map([...this.#alternations].map(([field, alternation]) => {
      const own = new Set();
      for (const text of texts.get(field) ?? []) for (const [literal] of text.matchAll(alternation)) own.add(literal);
      return [field, own];
    }));
    const values = new Map(Object.entries({
      'gen_ai.operation.name': 'chat', 'http.request.method': 'POST', 'gen_ai.request.max_tokens': value.max_tokens, 'gen_ai.request.temperature': value.temperature,
      'gen_ai.request.choice.count': value.n, 'gen_ai.request.seed': value.seed, 'hedgerow.stream': Number(value.stream ?? false), 'hedgerow.turns': value.messages.filter(({ role }) => role !== 'system').length,
      'hedgerow.tools.count': value.tools?.length ?? 0, 'hedgerow.prompt.size': size, 'hedgerow.logprobs': value.logprobs === undefined ? undefined : Number(value.logprobs), 'hedgerow.top_logprobs': value.top_logprobs,
      'hedgerow.attachments.count': 0, 'hedgerow.reasoning_token.count': 0,
    }));
    return { texts, found, values };
  }

  #test(test) {
    if (test.all) return every(test.all.map((own) => this.#test(own)));
    if (test.any) return some(test.any.map((own) => this.#test(own)));
    const { field, string, regex, number, exists } = test.field;
    const texts = (request) => request.texts.get(field) ?? [];
    const value = (request) => request.values.get(field);
    const isText = field === INSTRUCTION || Object.values(ROLES).includes(field);
    if (exists !== undefined) return (request) => ((isText ? texts(request).length > 0 : value(request) !== undefined) === exists);
    if (number) return ({ values }) => compares(values.get(field), number);
    if (regex) {
      const pattern = new RegExp(regex.pattern.replaceAll('(?-u:.)', '[^]').replace(/^\(\?[a-z]+\)/, ''), 'i');
      return isText ? (request) => texts(request).some((text) => pattern.test(text)) : () => false;
    }
    if (!string) return () => false;
    const { anchor, value: literal } = string;
    if (!isText) return (request) => value(request) === literal;
    if (anchor === 'startswith') return (request) => texts(request).some((text) => text.startsWith(literal));
    if (anchor === 'endswith') return (request) => texts(request).some((text) => text.endsWith(literal));
    if (!this.#literals.has(field)) this.#literals.set(field, new Set());
    this.#literals.get(field).add(literal);
    return ({ found }) => found.get(field).has(literal);
  }
}

const every = (tests) => (request) => tests.every((test) => test(request));
const some = (tests) => (request) => tests.some((test) => test(request));

function condition_(condition, tests) {
  if (condition.all) return every(condition.all.map((own) => condition_(own, tests)));
  if (condition.any) return some(condition.any.map((own) => condition_(own, tests)));
  if (condition.not) {
    const inner = condition_(condition.not, tests);
    return (request) => !inner(request);
  }
  return tests[condition.is];
}

function compares(own, { order, value }) {
  if (own === undefined) return false;
  return { equals: own === value, eq: own === value, gt: own > value, gte: own >= value, lt: own < value, lte: own <= value }[order];
}
