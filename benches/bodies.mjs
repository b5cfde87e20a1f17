// Deterministic chat bodies and literals for the benchmarks. All text is generated; none is
// recorded traffic.
import { gzipSync } from 'node:zlib';

/**
 * Returns a seeded generator of numbers in [0, 1): Mulberry32, which gives equal numbers
 * everywhere.
 */
export function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const VERBS = [
  'generate',
  'write',
  'create',
  'produce',
  'compose',
  'rewrite',
  'expand',
  'evolve',
  'collect',
  'grade',
];
const KINDS = ['diverse', 'synthetic', 'new', 'harder', 'unique'];
const THINGS = [
  'instructions',
  'questions',
  'answers',
  'problems',
  'dialogues',
  'examples',
  'rationales',
  'responses',
  'prompts',
  'solutions',
];

/**
 * 500 phrases of the kind that signatures search for. The bodies contain single words of these
 * phrases often, and whole phrases rarely.
 */
export const LITERALS = VERBS.flatMap((verb) =>
  KINDS.flatMap((kind) => THINGS.map((thing) => `${verb} ${kind} ${thing}`)),
);

const words = (...lines) => lines.join(' ').split(' ');

const NOUNS = words(
  'gate hedge field lane orchard ditch wall path meadow barn stream bird spring summer harvest',
  'letter garden neighbour stone water road morning evening bridge river season tool basket ladder',
  'roof window table kitchen bread market village winter cloud weather frost seed root branch leaf',
).concat(THINGS);
const ACTIONS = words(
  'keeps holds opens crosses follows finds carries brings leaves turns meets covers marks takes',
  'shows needs asks gives mends counts',
).concat(VERBS);
const ADJECTIVES = words(
  'old quiet narrow green early late heavy small broad bright wet warm low plain soft long',
).concat(KINDS);
const CONJUNCTIONS = ['and', 'but', 'while', 'because', 'so that', 'before', 'although', 'where'];

/** A vocabulary for `prose` without LITERALS and without their words. */
const EVERYDAY = [
  NOUNS.slice(0, -THINGS.length),
  ACTIONS.slice(0, -VERBS.length),
  ADJECTIVES.slice(0, -KINDS.length),
  0,
];

/**
 * Returns a sentence. `next` returns random numbers. A share `literalShare` of all sentences
 * contains a literal.
 */
function prose(
  next,
  [nouns, actions, adjectives, literalShare] = [NOUNS, ACTIONS, ADJECTIVES, 0.015],
) {
  const pick = (list) => list[Math.floor(next() * list.length)];
  const phrase = () => `the ${next() < 0.6 ? `${pick(adjectives)} ` : ''}${pick(nouns)}`;
  const clause = () =>
    `${phrase()} ${pick(actions)} ${phrase()}${next() < 0.4 ? ` near ${phrase()}` : ''}`;
  const text =
    next() < literalShare
      ? `please ${pick(LITERALS)} for ${phrase()}`
      : next() < 0.5
        ? `${clause()} ${pick(CONJUNCTIONS)} ${clause()}`
        : clause();
  const end = next() < 0.1 ? '?' : '.';
  return `${text[0].toUpperCase()}${text.slice(1)}${end}${next() < 0.12 ? '\n\n' : ' '}`;
}

/** Returns a few lines of Python, with characters that JSON escapes. */
function code(next) {
  const pick = (list) => list[Math.floor(next() * list.length)];
  const name = () => `${pick(ACTIONS)}_${pick(NOUNS)}`;
  const n = () => Math.floor(next() * 1000);
  return pick([
    () =>
      `def ${name()}(${pick(NOUNS)}, ${pick(ADJECTIVES)}=${n()}):\n` +
      `    """Return "${pick(NOUNS)}" or None."""\n`,
    () =>
      `    for ${pick(NOUNS)} in range(${n()}):\n` +
      `        if ${name()}["${pick(ADJECTIVES)}"] >= ${n()} and not ${name()}:\n` +
      `            ${name()}(${n()}, '${pick(NOUNS)}')\n`,
    () => `    # ${prose(next).trim()}\n`,
    () =>
      `    return {"${pick(NOUNS)}": ${name()}[${n()}], ` +
      `"path": "C:\\\\${pick(NOUNS)}\\\\${pick(NOUNS)}"}\n\n`,
  ])();
}

const RUSSIAN = words(
  'забор сад поле дорога старый тихий держит ведёт около осень весна мост река новый хлеб окно',
  'письмо сосед утро вечер камень вода лист ветка корень зима лето рынок деревня стол крыша',
);
const THAI = words(
  'รั้ว สวน ทุ่งนา ถนน เก่า เงียบ ใกล้ ฤดูฝน สะพาน แม่น้ำ ใหม่ ขนมปัง หน้าต่าง จดหมาย เพื่อนบ้าน',
  'เช้า เย็น หิน น้ำ ใบไม้ กิ่ง ราก ตลาด หมู่บ้าน โต๊ะ หลังคา ต้นไม้ เปิด ปิด เดินทาง กำลัง',
);

const pickOne = (next, list) => list[Math.floor(next() * list.length)];

const WRITERS = {
  /** Prose that often contains words that signatures search for. */
  english: prose,
  everyday: (next) => prose(next, EVERYDAY),
  code,
  chinese: (next) =>
    Array.from({ length: 40 }, () =>
      next() < 0.08 ? '，' : HAN[Math.floor(next() * HAN.length)],
    ).join(''),
  russian: (next) => `${Array.from({ length: 12 }, () => pickOne(next, RUSSIAN)).join(' ')}. `,
  /** Thai, which has no spaces between words. */
  thai: (next) => `${Array.from({ length: 12 }, () => pickOne(next, THAI)).join('')} `,
  base64: (next) =>
    Buffer.from(Array.from({ length: 300 }, () => Math.floor(next() * 256))).toString('base64'),
  'near misses': (next) => `${LITERALS[Math.floor(next() * LITERALS.length)].slice(0, -1)}q `,
};

/**
 * Returns a chat body of exactly `bytes` bytes, with text of the `WRITERS` entry `kind`. The body
 * has a system message, turns of a few hundred bytes or more, and common parameters.
 */
export function body(kind, bytes) {
  const next = random(bytes + kind.length);
  const write = WRITERS[kind];
  const messages = [{ role: 'system', content: `${prose(next)}${prose(next)}`.trim() }];
  const value = { model: 'demo-large', messages, temperature: 0.7, max_tokens: 512, stream: true };
  const size = () => Buffer.byteLength(JSON.stringify(value));
  let total = size();
  for (let user = true; total < bytes; user = !user) {
    let content = '';
    for (let turn = 200 + next() * Math.min(bytes / 4, 6000); content.length < turn;)
      content += write(next);
    messages.push({ role: user ? 'user' : 'assistant', content });
    total += Buffer.byteLength(JSON.stringify(messages.at(-1))) + 1;
  }
  // Cuts the end of the messages and pads the last message with spaces, so that the body has
  // exactly `bytes` bytes.
  while (size() > bytes) {
    const last = messages.at(-1);
    if (last.content) last.content = last.content.slice(0, -Math.ceil((size() - bytes) / 3));
    else messages.pop();
  }
  messages.at(-1).content += ' '.repeat(bytes - size());
  return Buffer.from(JSON.stringify(value));
}

const ADVERBS = 'quickly carefully openly plainly boldly calmly kindly neatly rarely safely'.split(
  ' ',
);

/** Returns 50, 500 or 5,000 literals like `LITERALS`. */
export const literals = (count) => {
  if (count === 50) return LITERALS.filter((_, i) => i % 10 === 0);
  return count === 500
    ? LITERALS
    : LITERALS.flatMap((literal) => ADVERBS.map((adverb) => `${adverb} ${literal}`));
};

/** Common Chinese characters, in random order. */
const HAN = [
  '的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学',
  '对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手用主行方又如前所本见经头面',
  '公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情',
  '部正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北',
  '少关并内加化由却代军产入先山五太水万市眼体别处总才场师书比住员九笑性通目华报立马命张活难神',
  '数件安表原车白应路期叫死常提感金何更反合放做系计或司利受光王果亲界及今京务制解各任至清物台',
  '象记边共风战干接它许八特觉望直服毛林题建南度统色字请爱让认算论百吃义科怎元社术结六功指思非',
  '流每青管夫连远资队跟带花快条院变联言权往展该领传近留红治决周保达办运武半候七必城父强步完革',
  '深区即求品士转量空甚众技轻程告江语英基派满式李息写呢识极令黄德收脸钱党倒未持取设始版双历越',
  '史商千片容研像找友孩站广改议形委早房音火际则首单据导影失拿网香似斯专石若兵弟谁校读志飞观争',
  '究包组造落视济喜离虽坏兴切装',
].join('');

/**
 * Returns normalised text of about `bytes` bytes for the literal search: the text of a chat,
 * Chinese, base64, or near misses of the literals.
 */
export function text(kind, bytes, literals) {
  const next = random(bytes + kind.length);
  const pick = (list) => list[Math.floor(next() * list.length)];
  const plain = (text) => text.toLowerCase().replace(/\s+/g, ' ');
  const fill = (part) => {
    const parts = [];
    for (let size = 0; size < bytes;) size += Buffer.byteLength(parts[parts.push(part()) - 1]);
    return parts.join('');
  };
  switch (kind) {
    case 'chinese':
      return Buffer.from(fill(() => (next() < 0.08 ? '，' : pick(HAN))));
    case 'base64':
      return Buffer.from(
        plain(
          Buffer.from(
            Array.from({ length: (bytes * 3) / 4 }, () => Math.floor(next() * 256)),
          ).toString('base64'),
        ),
      );
    case 'near misses':
      return Buffer.from(fill(() => `${pick(literals).slice(0, -1)}q `));
    default:
      return Buffer.from(
        plain(
          JSON.parse(body(kind, bytes))
            .messages.map(({ content }) => content)
            .join(' '),
        ),
      );
  }
}

/** A text that matches a shipped signature. */
const MATCHING = 'Generate 20 diverse instruction and response pairs to train a language model.';

/** Words at the ends of texts that signatures match. */
const LAST_WORDS = 'training data, instruction pairs, questions and answers for the dataset. ';
/** Words at the beginnings of texts that signatures match. */
const FIRST_WORDS = 'generate write create synthesize rewrite produce collect ';

/**
 * Returns bodies that are made to be expensive to score, by name. The Worker scores at most one
 * scan window (2 MiB) of each body.
 */
export function worstCases(literals) {
  const chat = (content) => `{"model":"demo-large","messages":[${content}]}`;
  const message = (text) => `{"role":"user","content":${JSON.stringify(text)}}`;
  const many = (count) =>
    Array.from({ length: count }, (_, i) => message(`Part ${i} of the hedge.`)).join(',');
  return {
    [PROSE]: body('everyday', WINDOW),
    '10 MB of prose': body('english', 10 << 20),
    '100,000 messages': Buffer.from(chat(many(100_000))),
    '1,000 levels of nesting': Buffer.from(
      chat(`{"role":"user","content":${'[{"content":'.repeat(1000)}"deep"${'}]'.repeat(1000)}}`),
    ),
    'one string of 5 MB, all near misses': Buffer.from(
      chat(message(text('near misses', 5 << 20, literals).toString())),
    ),
    '2 MiB of signature words, last words first': Buffer.from(
      chat(message(`${LAST_WORDS.repeat(14_000)}${FIRST_WORDS.repeat(18_000)}`)),
    ),
    '2 MiB of combining characters': Buffer.from(chat(message(`a${'\u0301'.repeat(1 << 20)}`))),
    ...hostileText((unit) => chat(message(unit.repeat(WINDOW / Buffer.byteLength(unit))))),
    '2 MiB of parts of one letter': Buffer.from(chat(parts('a'))),
    '2 MiB of parts of U+FDFA': Buffer.from(chat(parts('\ufdfa'))),
    '2 MiB of keys of U+FDFA': Buffer.from(
      `{${'"\ufdfa":1,'.repeat(WINDOW / 8)}${chat(message('hello')).slice(1)}`,
    ),
    '2 MiB of top_p': Buffer.from(
      `{${'"top_p":1,'.repeat(WINDOW / 10)}${chat(message('hello')).slice(1)}`,
    ),
    'gzip of 64 MiB of blanks': gzipSync(Buffer.alloc(64 << 20, ' ')),
    'gzip of 10 MiB of prose': gzipSync(body('english', 10 << 20)),
    'gzip of 200,000 equal messages': gzipSync(
      chat(`${message('Part of the hedge.')},`.repeat(200_000) + message('end')),
    ),
    // Each block of four bytes encodes 128 KiB of one repeated byte.
    'zstd of 64 MiB of blanks': Buffer.concat([
      Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x58]),
      ...Array.from({ length: 512 }, () => Buffer.from([2, 0, 0x10, 0x20])),
    ]),
    // The location of a match in the body is computed from the last checkpoint before the match.
    '2 MiB of Russian, one match at the end': Buffer.from(
      chat(message(`${'щ'.repeat((1 << 20) - 200)} ${MATCHING}`)),
    ),
    '2 MiB of Thai, one match at the end': Buffer.from(
      chat(message(`${'กุ่'.repeat(((2 << 20) - 400) / 9)} ${MATCHING}`)),
    ),
  };
}

/** Name of the body with which the expensive bodies are compared. */
export const PROSE = '2 MiB of everyday prose';

/** Maximum bytes of a body that the Worker scores. */
const WINDOW = 2 << 20;

/** Returns a message that fills the window with equal parts, each with the text `text`. */
function parts(text) {
  const part = JSON.stringify({ text });
  const list = `${part},`.repeat(WINDOW / (Buffer.byteLength(part) + 1));
  return `{"role":"user","content":[${list}"end"]}`;
}

/**
 * Returns bodies of characters that normalisation expands to several characters, of combining
 * marks, and of escapes. Some of the bodies are also in UTF-16 or compressed. `body` returns a body
 * that repeats a text.
 */
function hostileText(body) {
  const units = {
    'U+FDFA': '\ufdfa',
    'U+FDFB': '\ufdfb',
    'U+3300': '\u3300',
    'U+2A74': '\u2a74',
    'U+00BD': '\u00bd',
    'U+0130': '\u0130',
    'decomposed Hangul': '\u1112\u1161\u11ab',
    'letters with a mark': 'a\u0301',
    'invisible characters': '\u200b',
    emoji: '\u{1f600}',
    blanks: ' ',
    'escaped control characters': '\b\f',
    'letters and escaped backspaces': 'a\b',
  };
  const rows = Object.entries(units).map(([name, unit]) => [
    `2 MiB of ${name}`,
    Buffer.from(body(unit)),
  ]);
  for (const name of ['U+FDFA', 'U+3300']) {
    const text = body(units[name]);
    rows.push(
      [`gzip of 2 MiB of ${name}`, gzipSync(text)],
      [`${name} in UTF-16`, Buffer.from(text, 'utf16le').subarray(0, WINDOW)],
      [`gzip of ${name} in UTF-16`, gzipSync(Buffer.from(text, 'utf16le'))],
    );
  }
  return Object.fromEntries(rows);
}

/** Splits literals into groups of ten. Each group becomes one signature of the benchmark. */
export const chunksOfTen = (all) =>
  Array.from({ length: all.length / 10 }, (_, i) => all.slice(i * 10, i * 10 + 10));

/**
 * Returns Sigma files for `hedgerow build`, as [path, text][]: signatures of ten literals each over
 * the text of all messages.
 */
export function ruleFiles(all = LITERALS) {
  return chunksOfTen(all).map((literals, i) => {
    const number = String(i).padStart(3, '0');
    const exemplar = (name, expect, text) =>
      `    - {name: ${name}, expect: ${expect}, event: {hedgerow.prompt.user: '${text}'}}`;
    const exemplars = [
      exemplar('first', 'match', literals[0]),
      exemplar('last', 'match', literals[9]),
      exemplar('half', 'no-match', literals[0].slice(0, -4)),
      exemplar('other', 'no-match', 'the old gate'),
    ];
    return [
      `synthesis/bench_${number}.yml`,
      `title: Benchmark literals ${number}
id: 00000000-0000-4000-8000-000000000${number}
name: synthesis_bench_${number}
status: stable
description: Ten literals of the benchmark. Not for use.
references: [https://example.com/benches]
author: Hedgerow
date: 2026-11-23
tags: [hedgerow.synthesis]
logsource: {category: llm_api, product: hedgerow}
detection:
  phrase:
    gen_ai.input.messages|contains: [${literals.map((literal) => `'${literal}'`).join(', ')}]
  condition: phrase
falsepositives: [none, it is never deployed]
level: low
custom_attributes:
  rsigma.exemplars:
${exemplars.join('\n')}
`,
    ];
  });
}
