// Formats the results of `npm run bench` as tables and prose. The prose takes its figures from the
// same results as the tables. Figures that `npm run bench` does not measure have a date. Fails if a
// row that the report needs is missing.
import { readFileSync } from 'node:fs';
import { Failure, fromRoot } from '../scripts/lib/proc.mjs';

export const kib = (bytes) => `${(bytes / 1024).toFixed(0)} KiB`;
const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const integer = (number) => number.toLocaleString('en');

const grouped = (rows) => ({
  phases: rows.filter(
    ({ phase, rules, peer }) =>
      !['scan', 'endtoend'].includes(phase) && !rules && peer !== 'rsigma-eval',
  ),
  shipped: rows.filter((row) => row.in_turn_us),
  worst: rows.filter((row) => row.scored),
  sigma: rows.filter(({ peer }) => peer === 'rsigma-eval'),
  scans: rows.filter(({ phase }) => phase === 'scan'),
  ends: rows.filter(({ phase }) => phase === 'endtoend'),
});

/** Returns the row of whole requests with the shipped rules, for a text of `bytes` bytes. */
const shippedRow = (rows, text, bytes) =>
  rows.find((row) => row.in_turn_us && row.text === text && row.bytes === bytes);

/** Returns the row of a phase in Wasm with 500 generated literals, for Chinese of `bytes` bytes. */
const chineseRow = (rows, phase, bytes) =>
  rows.find(
    (row) =>
      row.phase === phase &&
      row.host === 'wasm' &&
      row.text === 'chinese' &&
      row.literals === 500 &&
      row.bytes === bytes,
  );

/** Returns the row in which a byte sum is measured for the same search as in `row`. */
const byteSumRow = (scans, row) =>
  scans.find(
    ({ peer, bytes, text, literals }) =>
      peer === 'byte sum' &&
      bytes === row.bytes &&
      text === row.text &&
      literals === row.literals,
  );

/** Returns the search in English with which a search in near misses is compared. */
function englishScan(scans, row) {
  const isLarge = ({ bytes }) => bytes > 1 << 19;
  return scans.find(
    (other) =>
      other.peer === 'aho-corasick' &&
      other.text === 'english' &&
      other.literals === row.literals &&
      isLarge(other) === isLarge(row),
  );
}

/** Returns the end-to-end row at 4 KiB and 16 connections against a baseline. */
const baselineRow = (rows, name) =>
  rows.find(
    ({ phase, peer, bytes, connections }) =>
      phase === 'endtoend' && peer === name && bytes === 4096 && connections === 16,
  );

/** Sizes of Chinese text, in bytes, in the sentence about its normalisation. */
const CHINESE_BYTES = [65536, 262144, 1048576];

/**
 * Returns descriptions of the rows that the report needs and the results lack, each with the file
 * that measures the row.
 */
export function missingRows({ rows, memory }) {
  const { shipped, scans } = grouped(rows);
  const searches = scans.filter(({ peer }) => peer === 'aho-corasick');
  const search = ({ text, bytes, literals }) => `${literals} literals, ${bytes} bytes of ${text}`;
  const everyday = shipped.filter(({ text, bytes }) => text === 'everyday' && bytes >= 4096);
  const needed = [
    ...[4096, 32768].map((bytes) => [
      shippedRow(rows, 'everyday', bytes),
      `phases.mjs: whole requests with the shipped rules, ${bytes} bytes of everyday`,
    ]),
    ...everyday.map(({ bytes }) => [
      shippedRow(rows, 'english', bytes),
      `phases.mjs: whole requests with the shipped rules, ${bytes} bytes of english`,
    ]),
    ...['extract', 'total'].flatMap((phase) =>
      CHINESE_BYTES.map((bytes) => [
        chineseRow(rows, phase, bytes),
        `phases.mjs: ${phase} in Wasm with 500 literals, ${bytes} bytes of chinese`,
      ]),
    ),
    ...searches.map((row) => [
      byteSumRow(scans, row),
      `phases.mjs: literal search, byte sum for ${search(row)}`,
    ]),
    ...searches
      .filter(({ text }) => text === 'near misses')
      .map((row) => [
        englishScan(scans, row),
        `phases.mjs: literal search in english, to compare with ${search(row)}`,
      ]),
    // Without wrk, the end-to-end rows and the memory of workerd are not measured.
    [
      !baselineRow(rows, 'baseline-rust') || baselineRow(rows, 'baseline-js-reading'),
      'endtoend.mjs: baseline-js-reading, 4096 bytes, 16 connections',
    ],
    [!memory.ours || memory['baseline-rust'], 'endtoend.mjs: memory of baseline-rust'],
  ];
  return needed.filter(([row]) => !row).map(([, description]) => description);
}

/** Throws if the results lack rows that the report needs. The message lists all of them. */
function requireRows(result) {
  const missing = missingRows(result);
  if (!missing.length) return;
  throw new Failure(
    `the results lack rows that benches/report.mjs needs (${missing.length}):\n` +
      missing.map((description) => `  benches/${description}\n`).join('') +
      'Run `npm run bench` again. If the rows are still missing, let the named files measure ' +
      'them, check with `npm run bench -- --quick`, and then run `npm run bench`.',
  );
}

/**
 * Returns the results for the terminal: the tables and the paragraphs. Throws if rows are missing.
 */
export function terminalReport(result) {
  requireRows(result);
  const { phases, shipped, worst, sigma, scans, ends } = grouped(result.rows);
  return [
    phaseTable(phases),
    shippedTable(shipped),
    worstTable(worst),
    sigmaTable(sigma),
    scanTable(scans),
    endTable(ends),
    ...paragraphs(result),
  ].join('\n\n');
}

const table = (columns, rows) => {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const isText = (name) => /^(phase|host|text|body|against)$/.test(name);
  const alignment = columns.map((name) => (isText(name) ? '---' : '---:'));
  return [line(columns), `|${alignment.join('|')}|`, ...rows.map(line)].join('\n');
};

const phaseTable = (rows) =>
  table(
    ['phase', 'host', 'text', 'literals', 'bytes', 'Hedgerow µs', 'JavaScript µs', 'ratio'],
    rows.map((r) => [
      r.phase,
      r.host,
      r.text,
      r.literals,
      r.bytes,
      r.ours_us,
      r.peer_us ?? '–',
      r.ratio ?? '–',
    ]),
  );

const shippedTable = (rows) =>
  table(
    ['text', 'bytes', 'Hedgerow µs', 'JavaScript µs', 'ratio', 'different bodies µs'],
    rows.map((r) => [
      r.agrees ? r.text : `${r.text} *`,
      r.bytes,
      r.ours_us,
      r.peer_us,
      r.ratio,
      r.in_turn_us,
    ]),
  );

const worstTable = (rows) =>
  table(
    ['body', 'bytes', 'scored bytes', 'ms in Wasm', '× prose', 'ms natively', '× prose'],
    rows.map((r) => [
      r.text,
      r.bytes,
      r.scored,
      (r.ours_us / 1000).toFixed(2),
      r.wasm_ratio,
      (r.native_us / 1000).toFixed(2),
      r.native_ratio,
    ]),
  );

const sigmaTable = (rows) =>
  table(
    ['text', 'bytes', 'Hedgerow µs', 'rsigma-eval µs', 'speed-up'],
    rows.map((r) => [r.text, r.bytes, r.ours_us, r.peer_us, `${Math.round(1 / r.ratio)} ×`]),
  );

const endTable = (rows) =>
  table(
    ['bytes', 'connections', 'against', 'Hedgerow µs', 'baseline µs', 'throughput', 'p50', 'p99'],
    rows.map((r) => [
      r.bytes,
      r.connections,
      r.peer,
      r.ours_us,
      r.peer_us,
      (1 / r.ratio).toFixed(2),
      `${r.p50_ratio} ×`,
      `${r.p99_ratio} ×`,
    ]),
  );

function scanTable(scans) {
  const speed = ({ bytes }, us) => (bytes / us / 1000).toFixed(2);
  const rows = scans.filter(({ peer }) => peer === 'aho-corasick');
  return table(
    [
      'literals',
      'text',
      'bytes',
      'Hedgerow GB/s',
      'aho-corasick GB/s',
      'byte sum GB/s',
      'speed-up over aho-corasick',
    ],
    rows.map((r) => [
      r.literals,
      r.text,
      r.bytes,
      speed(r, r.ours_us),
      speed(r, r.peer_us),
      speed(r, byteSumRow(scans, r).peer_us),
      `${(1 / r.ratio).toFixed(1)} ×`,
    ]),
  );
}

/**
 * Wraps text at 120 characters, without line breaks between a number and its unit. For list items,
 * `bullet` is put before the first line, and as many spaces before each other line.
 */
function wrap(text, bullet = '') {
  const [first, ...words] = text.trim().split(/(?<!\d)\s+|\s+(?!KiB|MiB|ms|µs|%)/);
  const lines = [bullet + first];
  for (const word of words) {
    const line = lines.at(-1);
    if (line.length + 1 + word.length <= 120) lines[lines.length - 1] += ` ${word}`;
    else lines.push(' '.repeat(bullet.length) + word);
  }
  return lines.join('\n');
}

const item = (text) => wrap(text, '- ');
const nestedItem = (text) => wrap(text, '  - ');

/** Returns the smallest and the largest number as text: `0.2 to 0.3`, or `0.2` if both are 0.2. */
function range(numbers, digits) {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)].map((n) => n.toFixed(digits));
  return low === high ? low : `${low} to ${high}`;
}

/**
 * Groups rows by `key`, a function that returns text. Returns the range of `value` in each group,
 * such as `0.2 to 0.3 for English, 0.1 for code`.
 */
const rangesBy = (key, rows, value, digits) =>
  Object.entries(Object.groupBy(rows, key))
    .map(([name, group]) => `${range(group.map(value), digits)} ${name}`)
    .join(', ');

/** Names of kinds of text in sentences. Other kinds have the same name as in the tables. */
const TEXT_NAMES = { english: 'English', chinese: 'Chinese', everyday: 'everyday text' };
const textName = (text) => TEXT_NAMES[text] ?? text;

/** Returns Markdown paragraphs about the results that no table shows. */
const paragraphs = (result) => [
  startParagraph(result),
  wasmMemoryParagraph(result.memory.wasm),
  processParagraph(result.memory),
  reloadParagraph(result),
  indicatorsParagraph(result.indicators),
  floodParagraph(result.flood),
  [
    'Correlators in workerd, with `REFRESH_SECONDS=1` (`tests/edge/correlate.spec.ts`):',
    ...result.online.map(item),
  ].join('\n'),
  commandParagraph(result),
];

const startParagraph = ({ wasm, startup_ms, wasm_instantiate_ms }) =>
  wrap(`
    The Worker's Wasm module: ${kib(wasm.raw)}, or ${kib(wasm.gzip)} gzipped.
    Active time at start-up: ${startup_ms ?? 'not measured'} ms (\`wrangler check startup\`).
    Compiling and instantiating the Wasm module in Node and loading the bundle with 500 literals
    takes ${wasm_instantiate_ms} ms.`);

function wasmMemoryParagraph(wasm) {
  const sizes = ({ empty, loaded, scored }) =>
    `${mib(loaded)} (${mib(empty)} before rules are loaded), ` +
    `and ${mib(scored)} after scoring one body of 4 KiB a hundred times`;
  return [
    'Wasm memory:',
    item(`with the shipped rules: ${sizes(wasm.shipped)};`),
    item(`with 5,000 literals in 500 signatures: ${sizes(wasm[5000])}.`),
  ].join('\n');
}

function processParagraph(memory) {
  const workers = Object.entries(memory).filter(([name]) => name !== 'wasm');
  if (!workers.length) return 'The memory of workerd was not measured.';
  const row = ([name, { process, heap }]) =>
    `| ${name === 'ours' ? 'Hedgerow' : `\`${name}\``} | ${mib(process)} | ${mib(heap)} |`;
  const rest = wrap(`
    In addition to heap and Wasm memory, a process contains workerd, V8's code for the Wasm module
    and, for Hedgerow, the KV namespace and Durable Objects, which the local simulation runs in the
    same process.`);
  return `Memory of workerd after twenty requests (process: proportional set size; heap: V8's heap):

| Worker | process | heap |
|---|---:|---:|
${workers.map(row).join('\n')}

${rest}`;
}

const reloadParagraph = ({ reload, about }) =>
  wrap(`
    Loading a release: the shipped bundle of ${about.date} has ${kib(reload.bytes)} and
    ${reload.signatures} signatures and correlations. Wasm parses and compiles it in
    ${reload.load_ms} ms, or in ${reload.check_ms} ms if it also compiles every regex. Of the
    ${reload.load_ms} ms, building the search tables takes ${reload.tables_ms} ms; if the bundle
    contained these tables, it would be ${kib(reload.tables_bytes)} larger. For comparison,
    JavaScript's JSON.parse takes ${reload.json_parse_ms} ms for the bundle.`);

const indicatorsParagraph = ({ count, bytes, load_ms, cold_ms }) =>
  wrap(`
    Loading indicators: Wasm parses ${integer(count)} indicators (${kib(bytes)}) in ${load_ms} ms.
    In a fresh process, verifying their HMAC with WebCrypto and parsing them takes ${cold_ms} ms.`);

const floodParagraph = (flood) =>
  wrap(`
    Test with a flood of template keys: a correlator with the shipped rules and a limit of
    ${kib(flood.limit)} receives ${integer(flood.keys)} keys, each of which one account sends once.
    Its peak memory is ${kib(flood.bytes)}. The flood also contains ${flood.shared} templates, each
    of which about 600 accounts send. The correlator finds ${flood.found} of these templates, and
    the largest error of their account counts is ${(100 * flood.error).toFixed(0)} %. The correlator
    takes ${flood.us.toFixed(1)} µs per request,
    in native code.`);

const commandParagraph = ({ replay, simulate }) =>
  [
    'On one core, with the shipped rules:',
    item(`
      \`hedgerow replay\`: ${integer(replay.requests_per_s)} requests/s, over
      ${integer(replay.requests)} chats of about ${kib(replay.body_bytes)}, a quarter of them with
      code.`),
    item(`
      \`hedgerow simulate ${simulate.scenario} --scale 0.004\`:
      ${integer(simulate.requests_per_s)} requests/s, or ${integer(simulate.uncorrelated_per_s)}
      with \`--no-correlate\`.`),
  ].join('\n');

/** Returns docs/benchmarks.md. Throws if rows are missing. */
export function markdown(result) {
  requireRows(result);
  const { phases, shipped, worst, sigma, scans, ends } = grouped(result.rows);
  const { rounds, sample_ms, ...about } = result.about;
  return `# Benchmarks

\`npm run bench\` writes this page. A *peer* is a program with which Hedgerow is compared. A ratio is Hedgerow's time
divided by the peer's time in one run. If the ratio is below 1, Hedgerow is faster. Figures without a date are results
of the run under "Environment".

## Whole requests, with the shipped rules

The table compares Hedgerow in Wasm, including the copy of the body into Wasm memory, with JavaScript that evaluates the
same bundle (\`benches/js-peer-shipped.mjs\`). Both process the same body repeatedly. "Different bodies" is Hedgerow's
time per request if the bodies differ:

${shippedTable(shipped)}

\\* The peer finds other signatures than Hedgerow, because it does not normalise, and misses a literal that overlaps
another literal.

The next table has bodies that are built to be expensive to score. The columns "× prose" have the time divided by the
time for 2 MiB of everyday prose. Bytes beyond the scan window are not scored:

${worstTable(worst)}

## End to end

wrk sends requests with everyday text through workerd to an origin in Node. All three run on the same cores. Times are
per request. Throughput and latencies (median and 99th percentile) are relative to the baseline. \`baseline-rust\` and
\`baseline-js\` forward requests unread. \`baseline-js-reading\` also reads the body and writes a log line, which is the
least that any filter that reads bodies has to do.

${endTable(ends)}

${profileSection(result.rows)}

## Literal search

The search runs in Wasm over normalised text:

${scanTable(scans)}

## Native matching

Hedgerow and rsigma-eval evaluate the same signatures on the same texts, and find the same number of matching
signatures:

${sigmaTable(sigma)}

## Start-up, memory, rules, correlation

${paragraphs(result).join('\n\n')}

## Phases, with generated rules

${phaseTable(phases)}

## Environment
${Object.entries(about)
  .map(([name, value]) => `- ${name}: ${value}`)
  .join('\n')}

## Method
- Bodies are generated (\`benches/bodies.mjs\`). They are chats of six kinds: in everyday words, in English with many
  words that signatures search for, with code, in Chinese, with base64, and with near misses of literals. A near miss is
  a literal with a different last letter. Each generated rule is a signature with ten literals, which it searches for in
  the text of all messages.
- Phases: \`extract\` reads fields from the body and normalises the text. \`match\` finds hits. \`sketch\` computes the
  template keys and the digest by which correlations count; the peer does not implement this phase. \`score\` computes
  the score from the hits. \`total\` runs all phases, beginning with the bytes of the body. In Wasm, \`total\` is one call
  from JavaScript, which includes the copy of the body into Wasm memory.
- The literal search reports every occurrence. It is compared with aho-corasick's DFA (overlapping matches), which must
  find the same number of occurrences. It is also compared with adding up all bytes of the text, whose time is a
  lower limit for any search.
- \`npm run bench\` fails if \`total\` with the shipped rules takes more than 0.25 of the peer's time at 4 KiB, or more
  than 0.6 above 4 KiB. It also fails if \`total\` and \`sketch\` together, with 500 generated literals over English or
  code of 4 KiB or more, take more than half of the peer's time. It writes this page even if it fails.
- The peers are JavaScript in the same V8. For generated rules, the peer (\`benches/js-peer.mjs\`) decodes the body, runs
  JSON.parse, matches one case-insensitive alternation per field, and sums weights. For the shipped rules, the peer
  (\`benches/js-peer-shipped.mjs\`) decodes the body, runs JSON.parse, converts the text to lower case, matches one
  alternation for all literals, and evaluates conditions. A condition runs cheap tests first and stops early, so a regex
  runs only if the other tests leave the condition open. Neither peer normalises (NFKC, white space, look-alikes). Both
  read one dialect and trust their input.
- Times are medians of ${rounds} samples of about ${sample_ms} ms each. Samples of Hedgerow and of the peer alternate.
- \`hedgerow-bench-native\` measures the native rows on the same files. These rows are compared with the times of the
  peer in this run.

${missedTargets(result)}

${limitations(shipped)}
`;
}

/** The output of `npm run profile` on 2026-11-27. `npm run bench` does not measure it. */
const PROFILE = `### Profile

\`npm run profile\` ran separately, on 2026-11-27. With the profiler and 16 connections, workerd's thread needs 591 µs for
a request of 4 KiB through Hedgerow, and 267 µs for such a request through \`baseline-rust\`. The table has the time of
each part of a request, including the functions that the part calls:

| part | Hedgerow µs | \`baseline-rust\` µs |
|---|---:|---:|
| scoring | 96 | |
| reading and matching (part of scoring) | 77 | |
| matching (part of scoring) | 45 | |
| idle | 63 | |
| log line | 44 | |
| \`fetch\` and its request | 42 | |
| V8 itself | 37 | 41 |
| garbage collection | 29 | 12 |
| reading the body | 22 | |
| copying headers into Wasm | 22 | |
| wake-ups by microtasks | 21 | 20 |
| correlators (in production, another isolate) | 20 | |

The remaining time is spread over several hundred calls.`;

/** Returns the profile, and compares it with the results. */
function profileSection(rows) {
  const alone = shippedRow(rows, 'everyday', 4096);
  const remarks = wrap(`
    In the run under "Environment", without other work in between, scoring 4 KiB of everyday text
    takes ${alone.ours_us.toFixed(0)} µs, or ${alone.in_turn_us.toFixed(0)} µs if the bodies differ
    ("Whole requests, with the shipped rules"). ${readingRemark(rows)} The next step would be to
    reduce the number of wake-ups and calls, by one future for reading, scoring and sending, and by
    reading headers by name.`);
  return `${PROFILE}\n\n${remarks}`;
}

/** Compares the baseline that reads and logs with the time that the target at 4 KiB allows. */
function readingRemark(rows) {
  const rust = baselineRow(rows, 'baseline-rust');
  const reading = baselineRow(rows, 'baseline-js-reading');
  if (!rust || reading.peer_us <= rust.peer_us / 0.9) return '';
  return `
    Reading and logging alone take more time than the target in "Missed targets" allows: in the
    table of "End to end", at 4 KiB and 16 connections, \`baseline-js-reading\` takes
    ${reading.peer_us} µs per request. The target is 0.9 of the throughput of \`baseline-rust\`,
    which is one request per ${(rust.peer_us / 0.9).toFixed(0)} µs.`;
}

/** Returns the targets that the results miss, with reasons and next steps. */
function missedTargets(result) {
  const targets = [
    requestTarget,
    endTarget,
    sizeTarget,
    memoryTarget,
    nearMissTarget,
    rsigmaTarget,
  ];
  const missed = targets.map((target) => target(result)).filter(Boolean);
  return ['## Missed targets', MISSED_INTRODUCTION, '', ...missed].join('\n');
}

const MISSED_INTRODUCTION = wrap(`
  This section lists the targets that the run under "Environment" misses. In this section, figures
  with the date 2026-11-27 are from experiments on that day. The commands of these experiments were
  not recorded, and the code and the rules have changed since then.`);

function requestTarget({ rows }) {
  const max = (bytes) => (bytes === 4096 ? 0.25 : bytes >= 65536 ? 0.125 : Infinity);
  const missed = rows
    .filter(({ phase, host, peer }) => phase === 'total' && host === 'wasm' && peer)
    .filter(({ bytes, ratio }) => ratio > max(bytes));
  if (!missed.length) return '';
  const rulesAndSize = ({ rules, literals, bytes }) =>
    `${rules ? 'the shipped rules' : `${integer(literals)} generated literals`}, ` +
    `${bytes === 4096 ? 'at 4 KiB' : 'at 64 KiB and more'}`;
  const forText = ({ text }) => `for ${textName(text)}`;
  return [
    item(`
      **A whole request in 0.25 of the JavaScript peer's time at 4 KiB, and in 0.125 at 64 KiB and
      more.** Only the following ratios of \`total\` in Wasm exceed the target:`),
    ...Object.entries(Object.groupBy(missed, rulesAndSize)).map(([name, group]) =>
      nestedItem(`With ${name}: ${rangesBy(forText, group, ({ ratio }) => ratio, 3)}.`),
    ),
    chineseReason(rows),
    searchReason(rows),
    AUTOMATA_REASON,
  ].join('\n');
}

const AUTOMATA_REASON = nestedItem(`
  With the shipped rules, half of the time for 1 MiB of English was spent on the lazily built
  automata of a few regexes (2026-11-27). Each of these automata outgrows its cache of 1 MiB, and is
  then built again. With caches of 3 MiB, matching of this text was a quarter faster, but a hostile
  text could use three times the memory.`);

/** Returns why generated rules take longer for Chinese than for other text. */
function chineseReason(rows) {
  const us = (phase, bytes) => chineseRow(rows, phase, bytes).ours_us;
  const shares = CHINESE_BYTES.map((bytes) => (100 * us('extract', bytes)) / us('total', bytes));
  return nestedItem(`
    For 64 KiB and more of Chinese, with 500 generated literals, \`extract\` takes
    ${range(shares, 0)} % of Hedgerow's time. This phase normalises the text, which the peer does not do.`);
}

/** Returns why the literal search takes most of the time for everyday text. */
function searchReason(rows) {
  const row = shippedRow(rows, 'everyday', 32768);
  const perByte = (us) => ((1000 * us) / row.bytes).toFixed(1);
  return nestedItem(`
    The literal search took four fifths of the time for everyday text (2026-11-27). At one in five
    positions, the text contained four bytes of a short literal, and a processor cannot predict
    these positions. With the shipped rules, a whole request takes ${perByte(row.ours_us)} ns per
    byte if the same 32 KiB are scored repeatedly, and ${perByte(row.in_turn_us)} ns per byte for
    different bodies. The next step would be to look up six bytes, which one instruction loads,
    instead of four, for literals of seven bytes and more. With this change, recorded requests would
    have a third fewer such positions (2026-11-27).`);
}

function endTarget({ rows }) {
  const missed = rows
    .filter(({ peer }) => ['baseline-rust', 'baseline-js'].includes(peer))
    .filter(({ bytes, ratio }) => 1 / ratio < (bytes === 4096 ? 0.9 : 0.85));
  if (!missed.length) return '';
  const peerAndSize = ({ peer, bytes }) => `of \`${peer}\` at ${kib(bytes)}`;
  return item(`
    **End to end, 0.9 of the baseline's throughput at 4 KiB and 0.85 at 64 KiB.** Hedgerow's
    throughput is ${rangesBy(peerAndSize, missed, ({ ratio }) => 1 / ratio, 2)}. The section
    "Profile" has the time of each part of a request, and the next step.`);
}

function sizeTarget({ wasm }) {
  const target = 450 * 1024;
  if (wasm.gzip <= target) return '';
  const recorded = JSON.parse(readFileSync(fromRoot('benches/size.json'), 'utf8'));
  const { data: _, ...code } = recorded.bytes;
  const total = Object.values(code).reduce((sum, bytes) => sum + bytes, 0);
  const percent = (bytes) => `${((100 * bytes) / total).toFixed(0)} %`;
  return item(`
    **450 KiB of gzipped Wasm.** The module has ${kib(wasm.gzip)},
    ${(wasm.gzip / target).toFixed(1)} times the target. When this page was written,
    \`benches/size.json\` recorded a module of ${kib(recorded.gzip)}. Of the code of this recorded
    module, before wasm-opt and gzip, ${percent(code.hedgerow_core)} is the core,
    ${percent(code.hedgerow_worker)} is the Worker with registry, ledger, correlators and admin API,
    and ${percent(code.regex_automata + code.regex_syntax)} is the regex crates. No function took
    more than 1.4 % of the code (2026-11-27). With all code optimised for size, the module was a tenth smaller, and
    slower (2026-11-27). The next step would be two modules: one module that scores, and one module
    that stores.`);
}

function memoryTarget({ memory }) {
  const { ours, 'baseline-rust': rust, wasm } = memory;
  const target = 16 * 2 ** 20;
  if (!ours || ours.process - rust.process <= target) return '';
  const heap = wasm.shipped.scored + ours.heap;
  return item(`
    **16 MiB more memory per isolate than the baseline.** The process takes
    ${mib(ours.process - rust.process)} more than the process of \`baseline-rust\`. Most of this
    difference is V8's code for the module: on 2026-11-27, the difference was 85 MiB, and 44 MiB
    without KV and Durable Objects. It is unknown how much of this memory a platform counts. Wasm
    memory and V8's heap together take ${mib(heap)},
    ${heap - rust.heap > target ? 'which also misses' : 'which meets'} the target (V8's heap of
    \`baseline-rust\` takes ${mib(rust.heap)}).`);
}

function nearMissTarget({ rows }) {
  const scans = rows.filter(({ phase, peer }) => phase === 'scan' && peer === 'aho-corasick');
  const perByte = ({ ours_us, bytes }) => ours_us / bytes;
  const missed = scans
    .filter(({ text }) => text === 'near misses')
    .map((row) => ({ ...row, cost: perByte(row) / perByte(englishScan(scans, row)) }))
    .filter(({ cost }) => cost > 4);
  if (!missed.length) return '';
  const literals = ({ literals }) => `with ${integer(literals)} literals`;
  return item(`
    **Near misses at no more than four times the cost of prose in the literal search.** The time per
    byte of near misses, divided by the time per byte of English, is
    ${rangesBy(literals, missed, ({ cost }) => cost, 1)}. In an experiment, the table contained one
    gram per literal, and the last bytes of the literal next to the gram. Near misses became only
    4 % faster (2026-11-27), so their cost comes from unpredictable branches, not from memory
    access. Checking many candidates without branches makes prose slower.`);
}

function rsigmaTarget({ rows }) {
  const missed = rows.filter(({ peer, ratio }) => peer === 'rsigma-eval' && 1 / ratio < 10);
  if (!missed.length) return '';
  const textAndSize = ({ text, bytes }) => `for ${kib(bytes)} of ${textName(text)}`;
  return item(`
    **Native matching ten times as fast as rsigma-eval in every row.** The speed-up, rounded in the
    table, is ${rangesBy(textAndSize, missed, ({ ratio }) => 1 / ratio, 1)}.`);
}

/** Returns the limitations. `rows`: whole requests with the shipped rules. */
function limitations(rows) {
  const differing = Math.max(...rows.map(({ in_turn_us, ours_us }) => in_turn_us / ours_us));
  const everyday = rows.filter(({ text, bytes }) => text === 'everyday' && bytes >= 4096);
  const english = everyday.map(
    ({ bytes, ours_us }) => shippedRow(rows, 'english', bytes).ours_us / ours_us,
  );
  const items = [
    `These numbers do not show latency at the edge. Cloudflare's machines differ from the machine of
    the run, and network and origin take most of the time of a request.`,
    `Except in "End to end", these numbers do not include the fixed costs of a Worker: the isolate,
    reading the body, HMAC, and the log line.`,
    `If all literals begin with one of a few bytes, aho-corasick searches for these bytes before it
    starts its automaton. Each of the 5,000 literals begins with one of nine letters. None of these
    letters occurs in the Chinese text, so aho-corasick is fast in the two rows with 5,000 literals
    and Chinese text. The literals of the shipped signatures begin with many different letters.`,
    `Rows with a peer repeat one body, so the processor's branch prediction learns this body.
    "Different bodies" is closer to real traffic, and takes up to ${differing.toFixed(1)} times as
    long.`,
    `The generated English contains many of the words that signatures search for. For 4 KiB and
    more, this text takes ${range(english, 1)} times as long as everyday words.`,
    `A ratio transfers better to another machine than a time. Neither transfers to another
    ruleset.`,
    `The start-up profile samples coarsely: it distinguishes 5 ms from 50 ms, but not 5 ms from
    6 ms.`,
  ];
  return ['## Limitations', ...items.map(item)].join('\n');
}
