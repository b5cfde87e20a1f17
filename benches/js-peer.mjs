// A JavaScript Worker's way to do the job of the generated rules, as the peer of the benchmark:
// JSON.parse, the text of each message by field, one case-insensitive alternation per field over
// the same literals, a capped sum of weights.
export class JsPeer {
  #fields;
  #weights;
  #decoder = new TextDecoder();
  #value = null;
  #texts = null;
  #literals = null;

  /** `rules`: [name, weight, literals][] */
  constructor(rules) {
    this.#weights = new Map(
      rules.flatMap(([name, weight, literals]) =>
        literals.map((literal) => [literal, [name, weight]]),
      ),
    );
    const escape = (literal) => literal.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
    const pattern = [...this.#weights.keys()].map(escape).join('|');
    this.#fields = Object.fromEntries(
      ['system', 'user', 'assistant', 'tool'].map((field) => [field, new RegExp(pattern, 'gi')]),
    );
  }

  load(bytes) {
    this.bytes = bytes;
  }

  extract() {
    this.#value = JSON.parse(this.#decoder.decode(this.bytes));
    this.#texts = [];
    for (const { role, content } of this.#value.messages) {
      if (typeof content === 'string') this.#texts.push([role, content]);
      else if (Array.isArray(content))
        for (const part of content)
          if (typeof part.text === 'string') this.#texts.push([role, part.text]);
    }
    return this.#texts.length;
  }

  match() {
    this.#literals = new Set();
    for (const [role, text] of this.#texts)
      for (const [literal] of text.matchAll(this.#fields[role] ?? this.#fields.user))
        this.#literals.add(literal.toLowerCase());
    return this.#literals.size;
  }

  score() {
    const hits = new Map([...this.#literals].map((literal) => this.#weights.get(literal)));
    let sum = 0;
    for (const weight of hits.values()) sum += weight;
    return 100 / (1 + 10 ** ((20 - Math.min(sum, 25)) / 10));
  }

  runAll() {
    this.extract();
    this.match();
    return this.score();
  }
}
