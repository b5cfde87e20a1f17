// The peer of the benchmark with generated rules: does the same work as a JavaScript Worker could.
// It calls JSON.parse, collects the text of each message by field, searches each field for the same
// literals with one case-insensitive regex alternation, and adds the weights up to a cap.
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
