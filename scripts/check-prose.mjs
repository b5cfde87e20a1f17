// npm run check: finds phrases that make prose hard to read (the habits), lines that are too wide,
// and crates with too few doc comments. Reads Markdown, comments, string literals, and the texts of
// rules and of docs/openapi.yaml. Checks all files except those that git ignores.
//   node scripts/check-prose.mjs [--counts]   (--counts: only the number of findings per habit)
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, fromRoot, main, ROOT } from './lib/proc.mjs';

/**
 * Pattern for the start of a sentence: the start of a paragraph, or the place after another
 * sentence.
 */
const START = '(?<=(?:^|\\n|[.!?]["\')\\]”’]* )[ "\'(“‘[*_]*)';
const RELATIVE = 'relative at the start';
const READER = '(me|(the|a) (model|assistant|judge))';

/**
 * Habits: name, pattern, remedy. A space in a pattern matches one or more white-space characters.
 */
const HABITS = [
  [RELATIVE, `${START}\\b(What|Who|Whose|Whom|Which|That which) `, 'begin with a noun or a verb'],
  [RELATIVE, '(?<=^[^\\w\\n]*)(what|who|whose|whom) [a-z]', 'begin with a noun or a verb'],
  [
    'is no',
    '(?<!\\bthere )\\b(is|are) no\\b(?! (longer|more|less|later)\\b)',
    'write "is not a"',
  ],
  [
    'tell',
    `\\b(un)?(told|tells?|telling)\\b(?! (${READER}\\b|(\\S+ ){0,5}apart\\b))`,
    'write say, report, return or print',
  ],
  ['dear', '\\bdear(er|est|ly)?\\b', 'write expensive'],
  ['heed', '\\b(un)?heed(s|ed|ing)?\\b', 'write ignore, read or use'],
  ['mend', '\\bmend(s|ed|ing)?\\b', 'write repair, fix or correct'],
  ['likewise', '\\blikewise\\b', 'repeat the verb'],
  ['grave', '\\bgrave(r|st)\\b', 'write worst, highest or severe'],
  ['seldom', '\\bseldom\\b', 'write rarely'],
  ['anew', '\\banew\\b', 'write again'],
  ['of late', '\\bof late\\b(?! (events|requests|data))', 'write recently'],
  ['beside', '\\bbeside\\b', 'write next to, or in addition to'],
  ['as as', '\\bas (\\w+ )?as as\\b', 'repeat the noun'],
  ['where there is', '(?<!\\band )\\bwhere (there|it|that) (is|are)\\b', 'write if'],
  ['same as above', '\\bthe same as (above|before)\\b', 'repeat the noun'],
  ['see above', '\\bsee above\\b', 'name the section'],
  ['whoever', '\\b(whoever|whomever|whosoever)\\b', 'name the person'],
  [
    'stand',
    '(?<!\\bas it )\\b(stands?|stood)\\b(?!-| (for|still)\\b)',
    'write is, is stored or is located',
  ],
].map(([name, pattern, remedy]) => {
  const flags = name === RELATIVE ? 'g' : 'gi';
  return { name, remedy, pattern: new RegExp(pattern.replaceAll(' ', ' +'), flags) };
});

const WIDTH = 'width';
const WIDTHS = { rs: 100, ts: 100, tsx: 100, mjs: 100, md: 120 };

/** Minimum percentage of doc lines, by folder of a crate; null: the percentage is only printed. */
const DOC_SHARES = { 'src/core': 15, 'src/sigma': null, 'src/cli': null, 'src/worker': 15 };

/**
 * Allowed findings: file, habits, kinds of passages, reason. Without habits or kinds, all are
 * allowed.
 */
const ALLOWED = [
  {
    file: /^src\/cli\/cmd\/simulate\/(prompt_catalog|vocabulary)\.rs$/,
    kinds: ['string', WIDTH],
    reason: 'the words of simulated prompts',
  },
  { file: /^benches\/bodies\.mjs$/, kinds: ['string'], reason: 'the words of generated bodies' },
  { file: /^www\/src\/playground\/examples\.ts$/, kinds: ['string'], reason: 'example prompts' },
  { file: /^src\/core\/field\.rs$/, kinds: [WIDTH], reason: 'a table: one row a line' },
  { file: /^docs\/(signatures|correlations|fields)\.md$/, kinds: [WIDTH], reason: 'generated' },
  {
    file: /^CONTRIBUTING\.md$/,
    habits: ['is no', 'where there is', 'see above'],
    reason: 'names the habits',
  },
  {
    file: /^(scripts|tests\/scripts)\/check-prose(\.test)?\.mjs$/,
    kinds: ['string'],
    reason: 'lists the habits',
  },
];

const isAllowed = (file, habit, kind) => ALLOWED.some((allowed) => (
  allowed.file.test(file) && (allowed.habits ?? [habit]).includes(habit)
  && (allowed.kinds ?? [kind]).includes(kind)));

const COMMENT = String.raw`\/\/[^\n]*|\/\*[\s\S]*?\*\/`;
const NESTED = String.raw`\$\{(?:[^{}~]|~(?:\\[\s\S]|[^\\~])*~|\{[^{}]*\})*\}`;
const TEMPLATE = String.raw`~(?:\\[\s\S]|${NESTED}|[^\\~])*~`.replaceAll('~', '`');
const QUOTED = String.raw`'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"`;
const REGEX_START = String.raw`(?<=(?:[(,=:[!&|?{};\n]|=>|return)[ \n]*)\/(?![*\/])`;
const REGEX = String.raw`${REGEX_START}(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^[\/\\\n])+\/[a-z]*`;
const SCRIPT = new RegExp([COMMENT, QUOTED, TEMPLATE, REGEX].join('|'), 'g');
const YAML = /(?<=^|[\s[{,(])(?:"(?:\\.|[^"\\])*"|'(?:[^']|'')*'|#[^\n]*)/gm;

/**
 * Patterns of the tokens of a language by file extension. Tokens are comments, strings and other
 * literals.
 */
const TOKENS = {
  rs: new RegExp(
    String.raw`${COMMENT}|\b[bc]?r(#*)"[\s\S]*?"\1|"(?:\\[\s\S]|[^"\\])*"|'(?:\\[^\n]+?|[^\\'\n])'`,
    'gu',
  ),
  ts: SCRIPT,
  tsx: SCRIPT,
  mjs: SCRIPT,
  js: SCRIPT,
  toml: /"""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|#[^\n]*/g,
  yml: YAML,
  yaml: YAML,
};

const blank = (text) => text.replace(/[^\n]/g, ' ');
const fill = (text) => text.replace(/[^\n]/g, 'x');

/** Returns source text in which spaces replace comments and literals. Offsets do not change. */
export const withoutTokens = (text, language) => text.replace(TOKENS[language], blank);

const TEST_ATTRIBUTE = /#\[cfg\((?:test|all\((?:[^\]]*, *)?test\b[^\]]*\))\)\]/g;
const ITEM = /^(\s|#\[[^\]]*\])*(pub\b(\([^)]*\))?\s*)?(\w+)/;
const ITEMS = /^(mod|fn|struct|enum|union|trait|impl|use|const|static|type|async|unsafe)$/;

/**
 * Returns Rust source in which spaces replace each item with `#[cfg(test)]`. Offsets do not change.
 */
export function withoutTests(text) {
  const code = withoutTokens(text, 'rs');
  let result = text;
  for (const { index, 0: attribute } of code.matchAll(TEST_ATTRIBUTE)) {
    const end = itemEnd(code, index + attribute.length);
    result = result.slice(0, index) + blank(result.slice(index, end)) + result.slice(end);
  }
  return result;
}

/**
 * Returns the end of the item, field or statement at `start`. In `code`, spaces replace the tokens.
 */
function itemEnd(code, start) {
  const keyword = ITEM.exec(code.slice(start))?.[4] ?? '';
  for (let depth = 0, at = start; at < code.length; at += 1) {
    if (/[([{]/.test(code[at])) depth += 1;
    if (/[)\]}]/.test(code[at])) depth -= 1;
    if (depth < 0) return at;
    const ends = { ';': true, '}': keyword !== 'use', ',': !ITEMS.test(keyword) };
    if (depth === 0 && ends[code[at]]) return at + 1;
  }
  return code.length;
}

/**
 * Returns the passages of prose in a file: `{ kind, start, text }`. `kind` is comment, string or
 * text; `text` has a newline only between paragraphs.
 */
export function passages(file, text) {
  const language = path.extname(file).slice(1);
  if (language === 'md') return [{ kind: 'text', start: 0, text: prose(text) }];
  if (!TOKENS[language]) return [];
  const tokens = lex(text, language);
  const found = [];
  const add = (kind, list) => {
    for (const passage of list) found.push({ kind, ...passage, text: prose(passage.text) });
  };
  add('comment', comments(text, tokens, language));
  if (/^(rs|tsx?|m?js)$/.test(language)) add('string', strings(tokens, language));
  if (language === 'tsx') add('text', jsxTexts(withoutTokens(text, language)));
  for (const [files, keys] of VALUES) if (files.test(file)) add('text', values(text, keys));
  return found;
}

/** Keys of YAML files whose values are prose. */
const VALUES = [
  [/^rules\/.*\.yml$/, 'title|description|falsepositives|name'],
  [/^docs\/openapi\.yaml$/, 'title|summary|description'],
];

/** Returns the tokens of a source text: `{ start, end, token }`, in order. */
const lex = (text, language) => [...text.matchAll(TOKENS[language])].map(
  ({ 0: token, index: start }) => ({ start, end: start + token.length, token }),
);

/** Returns the comments as passages. Adjacent lines of comments of one kind form one passage. */
function comments(text, tokens, language) {
  const hash = /^(toml|ya?ml)$/.test(language);
  const opening = hash ? /^#/ : /^(\/\/[/!]?|\/\*)/;
  const markers = hash ? /^[ \t]*#+/gm : /^[ \t]*(\/\/[/!]?|\/\*+|\*(?!\/))|\*\/$/gm;
  const joined = [];
  for (const { start, end, token } of tokens) {
    const [kind] = opening.exec(token) ?? [];
    if (!kind) continue;
    const last = joined.at(-1);
    const alone = !text.slice(text.lastIndexOf('\n', start - 1) + 1, start).trim();
    const gap = last?.alone && last.kind === kind ? text.slice(last.end, start) : '';
    if (/^\n[ \t]*$/.test(gap)) last.end = end;
    else joined.push({ start, end, kind, alone });
  }
  return joined.map(({ start, end }) => (
    { start, text: text.slice(start, end).replace(markers, blank) }));
}

/** Returns string literals of two words or more. Escapes and placeholders are removed. */
function strings(tokens, language) {
  const placeholders = language === 'rs' ? /\{[\w.:#?$*<>^+-]*\}/g : /\$\{[^}]*\}/g;
  const literals = tokens.filter(({ token }) => /^[brc]*#*["'`]/.test(token));
  return literals.map(({ start, token }) => {
    const inner = token.replace(/^[brc]*#*["'`]|["'`]#*$/g, blank).replace(placeholders, fill);
    const lines = inner.replace(/\\n|\\\n/g, ' \n');
    return { start, text: lines.replace(/\\(["'`])/g, ' $1') };
  }).filter(({ text }) => /\p{L}\S*\s+\S*\p{L}/u.test(text));
}

/** Returns the text between JSX tags. In `code`, spaces replace the tokens. */
function jsxTexts(code) {
  return [...code.matchAll(/(?<=[^=]>|\})[^<>{}=;()]*[a-z] [a-z][^<>{}=;]*(?=[<{])/g)].map(
    ({ index: start, 0: text }) => ({ start, text }),
  );
}

/** Returns the values of YAML keys. A value ends before the next line of less or equal indent. */
function values(text, keys) {
  const pattern = new RegExp(`^( *(?:- )?)(?:${keys}):(?= |\\n)`, 'gm');
  return [...text.matchAll(pattern)].map(({ index, 0: key, 1: { length: indent } }) => {
    const start = index + key.length;
    const next = new RegExp(`\\n {0,${indent}}[^ \\n]`).exec(text.slice(start));
    const value = text.slice(start, next ? start + next.index : text.length);
    return { start, text: value.replace(/^ *[|>][-+]?(?=\n)/, blank) };
  });
}

/**
 * Prepares Markdown for the patterns: keeps newlines only between paragraphs, list items, headings
 * and table cells. Replaces each character of code, markup and URLs with a filler character.
 * Offsets do not change.
 */
function prose(markdown) {
  const text = markdown
    .replace(/^ *(```|~~~)[\s\S]*?^ *\1[^\n]*$/gm, blank)
    .replace(/``?[^`]+?``?/g, (code) => (/\n\s*\n/.test(code) ? code : fill(code)))
    .replace(/\]\([^)\s]*\)|\]\[[^\]]*\]|https?:\/\/[^\s)>]+|<\/?[a-z][^>\n]*>/g, fill)
    .replace(/\*\*|__|~~/g, blank);
  const hard = /^\s*([-*+] |\d+[.)] |#+ |\||>|$)|^\s*$/;
  const lines = text.split('\n');
  return lines.map((line, index) => {
    const cells = line.trimStart().startsWith('|') ? line.replaceAll('|', '\n') : line;
    const breaks = hard.test(lines[index + 1] ?? '') || /^\s*(#|\||$)/.test(line);
    return cells.replace(/^\s*([-*+] |\d+[.)] |#+ |> ?)/, blank) + (breaks ? '\n' : ' ');
  }).join('').slice(0, -1);
}

/** Returns a function that converts an offset of `text` to a line and a column, counted from 1. */
function positions(text) {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return (offset) => {
    let low = 0;
    for (let high = starts.length; high - low > 1;) {
      const middle = (low + high) >> 1;
      if (starts[middle] <= offset) low = middle;
      else high = middle;
    }
    return { line: low + 1, column: offset - starts[low] + 1 };
  };
}

/** Returns the habits in a file, in order: `{ file, line, column, name, remedy, match }`. */
export function findHabits(file, text) {
  const found = passages(file, text).flatMap(({ kind, start, text: passage }) => (
    HABITS.filter(({ name }) => !isAllowed(file, name, kind)).flatMap(
      ({ name, remedy, pattern }) => [...passage.matchAll(pattern)]
        .filter(({ index }) => name !== RELATIVE || !isQuestion(passage, index))
        .map(({ index, 0: match }) => (
          { offset: start + index, name, remedy, match: `"${match.trim()}"` })),
    )
  ));
  const position = positions(text);
  return found.sort((a, b) => a.offset - b.offset).map(({ offset, name, remedy, match }) => (
    { file, ...position(offset), name, remedy, match }));
}

function isQuestion(passage, index) {
  const end = /[.!?](?=["')\]”’]*(\s|$))|\n|$/g;
  end.lastIndex = index;
  return end.exec(passage)[0] === '?';
}

/** Returns the lines of a file that are too wide, as objects like those of `findHabits`. */
export function findWideLines(file, text) {
  const language = path.extname(file).slice(1);
  const limit = WIDTHS[language];
  if (!limit || isAllowed(file, WIDTH, WIDTH)) return [];
  const data = language === 'md' ? fences(text) : multilineStrings(text, language);
  let next = 0;
  return text.split('\n').flatMap((line, index) => {
    const start = next;
    next += line.length + 1;
    const isTable = language === 'md' && /^\s*\|/.test(line);
    const isData = isTable || data.some((block) => block.start < start && start <= block.end);
    const width = [...line.replace(UNBREAKABLE, '')].length;
    if (width <= limit || isData) return [];
    const [match, remedy] = [`${[...line].length} characters`, `wrap at ${limit}`];
    return { file, line: index + 1, column: limit + 1, name: WIDTH, remedy, match };
  });
}

/** Link targets and URLs, in which a line cannot be broken. */
const UNBREAKABLE = /\]\([^)\s]*\)|^\s*\[[^\]]+\]: \S+|https?:\/\/\S+/g;

const fences = (text) => [...text.matchAll(/^ *(```|~~~)[\s\S]*?^ *\1/gm)].map(
  ({ 0: { length }, index }) => ({ start: index - 1, end: index + length }),
);

/** Returns string literals that a line break would change: raw strings and templates. */
const multilineStrings = (text, language) => lex(text, language).filter(
  ({ token }) => /^([bc]?r#*"|`)/.test(token),
);

/**
 * Counts the lines of Rust sources that are neither blank nor tests, and the doc lines among them.
 */
export function countDocs(texts) {
  const all = texts.flatMap((text) => withoutTests(text).split('\n'));
  const lines = all.map((line) => line.trim()).filter(Boolean);
  return { docs: lines.filter((line) => /^\/\/[/!]/.test(line)).length, lines: lines.length };
}

function readFiles(root) {
  const args = ['ls-files', '--cached', '--others', '--exclude-standard', '-z'];
  const { status, stdout, stderr } = spawnSync('git', args, { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new Failure(`git ls-files: ${stderr?.trim() || 'git was not found'}`);
  const isRead = (file) => file.endsWith('.md') || TOKENS[path.extname(file).slice(1)];
  const files = stdout.split('\0').filter(isRead).sort();
  return files.filter((file) => existsSync(path.join(root, file))).map((file) => (
    { file, text: readFileSync(path.join(root, file), 'utf8') }));
}

/** Returns `{ findings, shares }` for the repository at `root`. */
export function checkProse(root) {
  const files = readFiles(root);
  const findings = files.flatMap(({ file, text }) => [
    ...findHabits(file, text), ...findWideLines(file, text)]);
  const shares = Object.entries(DOC_SHARES).map(([folder, min]) => {
    const isSource = ({ file }) => file.startsWith(`${folder}/`) && /(?<!\/tests)\.rs$/.test(file);
    const { docs, lines } = countDocs(files.filter(isSource).map(({ text }) => text));
    return { folder, min, lines, percent: (100 * docs) / Math.max(lines, 1) };
  }).filter(({ lines }) => lines);
  return { findings, shares };
}

/** Prints what `checkProse` returns; throws if any of it is wrong. */
function report({ findings, shares }, countsOnly) {
  const counts = {};
  for (const { file, line, column, name, match, remedy } of findings) {
    counts[name] = (counts[name] ?? 0) + 1;
    if (!countsOnly) console.log(`${file}:${line}:${column} ${name}: ${match}; ${remedy}`);
  }
  for (const [name, count] of Object.entries(counts)) console.log(`${name}: ${count}`);
  for (const { folder, min, lines, percent } of shares) {
    const bound = min === null ? '' : `, at least ${min} %`;
    console.log(`${folder}: ${percent.toFixed(1)} % of ${lines} lines are docs${bound}`);
  }
  const low = shares.filter(({ min, percent }) => percent < min).map(({ folder }) => folder);
  const problems = [
    ...(findings.length ? [`${findings.length} findings`] : []),
    ...(low.length ? [`too few docs in ${low.join(' and ')}`] : []),
  ];
  if (problems.length) throw new Failure(`${problems.join('; ')}: see CONTRIBUTING.md, Style`);
}

if (process.argv[1] === fromRoot('scripts/check-prose.mjs')) {
  await main(() => report(checkProse(ROOT), process.argv.includes('--counts')));
}
