// Formats the results of `npm run bench` as tables and prose.

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

/** Returns the results for the terminal: the tables and the paragraphs. */
export function terminalReport(result) {
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
  const byteSum = (row) =>
    scans.find(
      (other) =>
        other.peer === 'byte sum' &&
        ['bytes', 'text', 'literals'].every((key) => other[key] === row[key]),
    );
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
      speed(r, byteSum(r).peer_us),
      `${(1 / r.ratio).toFixed(1)} ×`,
    ]),
  );
}

/**
 * Wraps a paragraph or, with an indent for its further lines, an item at 120 characters. A number
 * stays with its unit.
 */
function wrap(text, indent = '') {
  const lines = [''];
  for (const word of text.trim().split(/(?<!\d)\s+|\s+(?!KiB|MiB|ms|µs|%)/)) {
    const line = lines.at(-1);
    if (!line.trim()) lines[lines.length - 1] += word;
    else if (line.length + 1 + word.length <= 120) lines[lines.length - 1] += ` ${word}`;
    else lines.push(indent + word);
  }
  return lines.join('\n');
}

const item = (text) => wrap(`- ${text}`, '  ');

/** Returns the results that are not in a table, as paragraphs of Markdown. */
const paragraphs = (result) => [
  startParagraph(result),
  wasmMemoryParagraph(result.memory.wasm),
  processParagraph(result.memory),
  reloadParagraph(result.reload),
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
    The Worker's Wasm: ${kib(wasm.raw)} raw, ${kib(wasm.gzip)} gzipped.
    Start-up: ${startup_ms ?? 'not measured'} ms active (\`wrangler check startup\`).
    Compiling and instantiating the Wasm module in Node and loading a bundle:
    ${wasm_instantiate_ms} ms.`);

function wasmMemoryParagraph(wasm) {
  const sizes = ({ empty, loaded, scored }) =>
    `${mib(loaded)} (${mib(empty)} when empty), ` +
    `and ${mib(scored)} after scoring a hundred bodies of 4 KiB`;
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
    The rest of a process is V8's code for the module and, for Hedgerow, the KV namespace and
    Durable Objects that the local simulation runs in the same process.`);
  return `workerd after twenty requests (proportional set size, and V8's heap):

| Worker | process | heap |
|---|---:|---:|
${workers.map(row).join('\n')}

${rest}`;
}

const reloadParagraph = (reload) =>
  wrap(`
    Loading a release: the shipped bundle has ${kib(reload.bytes)} and ${reload.signatures}
    signatures and correlations. Wasm parses and compiles it in ${reload.load_ms} ms, or in
    ${reload.check_ms} ms with every regex. Building the search tables takes ${reload.tables_ms} ms
    of that; as part of the bundle they would add ${kib(reload.tables_bytes)}. For comparison,
    JavaScript's JSON.parse takes ${reload.json_parse_ms} ms for the bundle.`);

const indicatorsParagraph = ({ count, bytes, load_ms, cold_ms }) =>
  wrap(`
    Loading indicators: Wasm parses ${integer(count)} indicators (${kib(bytes)}) in ${load_ms} ms.
    In a fresh process, with verification by the platform's HMAC, it takes ${cold_ms} ms.`);

const floodParagraph = (flood) =>
  wrap(`
    A flood of template keys: a correlator with the shipped rules and a limit of ${kib(flood.limit)}
    receives ${integer(flood.keys)} keys, each of which one account sends once. Its peak memory is
    ${kib(flood.bytes)}. About 600 accounts share each of ${flood.shared} templates in the flood:
    ${flood.found} of these templates are found, and the largest error of their account counts is
    ${(100 * flood.error).toFixed(0)} %. The correlator takes ${flood.us.toFixed(1)} µs per request,
    in native code.`);

const commandParagraph = ({ replay, simulate }) =>
  [
    'On one core, by the shipped rules:',
    item(`
      \`hedgerow replay\`: ${integer(replay.requests_per_s)} requests/s, over
      ${integer(replay.requests)} chats of about ${kib(replay.body_bytes)}, a quarter of them with
      code.`),
    item(`
      \`hedgerow simulate ${simulate.scenario} --scale 0.004\`:
      ${integer(simulate.requests_per_s)} requests/s,
      ${integer(simulate.uncorrelated_per_s)} with \`--no-correlate\`.`),
  ].join('\n');

/** Returns docs/benchmarks.md. */
export function markdown(result) {
  const { phases, shipped, worst, sigma, scans, ends } = grouped(result.rows);
  const { rounds, sample_ms, ...about } = result.about;
  return `# Benchmarks

\`npm run bench\` writes this page. A ratio is Hedgerow's time divided by the peer's time in one run: below 1, Hedgerow is
faster.

## Whole requests, by the shipped rules

Hedgerow in Wasm, including the copy of the body into Wasm memory, compared with JavaScript that evaluates the same
bundle (\`benches/js-peer-shipped.mjs\`). "Different bodies" is Hedgerow's time per request if the bodies differ:

${shippedTable(shipped)}

\\* The peer finds different signatures: it does not normalise, and it misses a literal that overlaps another one.

Bodies that are made expensive. Bytes beyond the scan window are not scored:

${worstTable(worst)}

## End to end

wrk sends requests with everyday text through workerd to an origin in Node, all on the same two cores. Times are per
request; throughput and latencies are relative to the baseline. \`baseline-rust\` and \`baseline-js\` forward requests
unread. \`baseline-js-reading\` also reads the body and writes a log line: the minimum of any filter that reads bodies.

${endTable(ends)}

${PROFILE}

## Literal search

In Wasm, over normalised text:

${scanTable(scans)}

## Native matching

Hedgerow compared with rsigma-eval, with the same signatures on the same texts. Both find equally many signatures:

${sigmaTable(sigma)}

## Start-up, memory, rules, correlation

${paragraphs(result).join('\n\n')}

## Phases, by generated rules

${phaseTable(phases)}

## Environment
${Object.entries(about)
  .map(([name, value]) => `- ${name}: ${value}`)
  .join('\n')}

## Method
- Bodies are generated (\`benches/bodies.mjs\`): chats in everyday words, in English full of the words that signatures
  search for, with code, in Chinese, with base64, and with near misses of literals. Generated rules are signatures of
  ten literals each over the text of all messages.
- Phases: \`extract\` reads fields from the body. \`match\` normalises the text and finds hits. \`sketch\` computes the
  template keys and the digest that correlations count by; the peer has no such phase. \`score\` turns hits into a score.
  \`total\` runs all phases from the bytes of the body; in Wasm it is one call from JavaScript with the copy into Wasm
  memory.
- The literal search reports every occurrence. It is compared with aho-corasick's DFA (overlapping matches), which must
  find equally many, and with a sum over the bytes as the lower limit.
- \`npm run bench\` fails if \`total\` by the shipped rules takes more than 0.25 of the peer's time at 4 KiB, or more than
  0.6 above 4 KiB. It also fails if \`total\` and \`sketch\` together, by 500 generated literals over English or code of 4
  KiB or more, take more than half of the peer's time.
- The peers are JavaScript in the same V8. By generated rules (\`benches/js-peer.mjs\`): decode, JSON.parse, one
  case-insensitive alternation per field, a sum of weights. By the shipped rules (\`benches/js-peer-shipped.mjs\`): lower
  case, one alternation for all literals, and conditions that run cheap tests first and stop early, so that a regex runs
  only if the other tests leave the condition open. Neither peer normalises (NFKC, white space, look-alikes). Both read
  one dialect and trust their input.
- Times are medians of ${rounds} samples of about ${sample_ms} ms each; Hedgerow and the peer run in turn.
- Native rows come from \`hedgerow-bench-native\` on the same files, compared with the peer of this run.

${MISSED}

${LIMITATIONS}
`;
}

/** The output of `npm run profile` on 2026-11-27. `npm run bench` does not measure it. */
const PROFILE = `### Profile

\`npm run profile\`, run separately on 2026-11-27. While it is profiled, a request of 4 KiB takes 591 µs of workerd's
thread at 16 connections; \`baseline-rust\` takes 267 µs. Parts, including the functions they call:

| part | Hedgerow µs | \`baseline-rust\` µs |
|---|---:|---:|
| scoring | 96 | |
| of scoring: reading and matching | 77 | |
| of scoring: matching | 45 | |
| idle | 63 | |
| log line | 44 | |
| \`fetch\` and its request | 42 | |
| V8 itself | 37 | 41 |
| garbage collection | 29 | 12 |
| reading the body | 22 | |
| copying headers into Wasm | 22 | |
| wake-ups by microtasks | 21 | 20 |
| correlators (in production, another isolate) | 20 | |

The rest is spread over several hundred calls. Without other work in between, scoring takes a fifth of this time (first
table). Reading and logging alone (\`baseline-js-reading\`) take more time than the target allows (table above). The next
step would be fewer wake-ups and calls: one future for reading, scoring and sending, and reading headers by name.`;

const MISSED = `## Missed targets
- **A whole request in 0.25 of the JavaScript peer's time at 4 KiB, and in 0.125 from 64 KiB.** The target at 4 KiB is
  met by the shipped rules and by generated rules. From 64 KiB, by generated rules, English and code take 0.15 to 0.22,
  base64 0.10 to 0.14, near misses 0.42 to 0.53, and Chinese 0.8, which the peer does not normalise. By the shipped
  rules, only base64 meets the target; everyday text and code take 0.13 to 0.28, near misses up to 0.30, Chinese up to
  0.37, and a megabyte of English 0.56.
  - According to the profile, four fifths of the time for everyday text are the literal search: one in five positions
    has four bytes of a short literal, and a processor cannot predict these positions (2.5 ns per byte for 32 KiB again
    and again, 4.7 ns for different bodies). The next step would be six bytes instead of four for literals of seven
    bytes and more, from one load. Counted over recorded requests, this change would leave a third fewer such positions.
  - Half of the time for a megabyte of English goes into lazily built automata of a few regexes. They outgrow their
    cache of 1 MiB each and are rebuilt. With caches of 3 MiB, matching of this text was a quarter faster, but a hostile
    text could use three times the memory.
- **End to end, 0.9 of the baseline's throughput at 4 KiB and 0.85 at 64 KiB.** See the table under "End to end".
- **450 KiB of gzipped Wasm.** The module takes more than twice as much. Of 1,056 KiB (2026-11-27), 808 are code, 64 the
  embedded rules, and 160 other data. Before wasm-opt and gzip, 31 % of the code is the core, 27 % is the Worker with
  registry, ledger, correlators and admin API, and 13 % is the regex crates (\`benches/size.json\`). No function has
  more than 1.4 %. With all code optimised for size, the module was a tenth smaller, and slower. The next step would be
  two modules: one module that scores, and one module that stores.
- **16 MiB more memory per isolate than the baseline.** Wasm memory and V8's heap together meet the target, with 4 MiB.
  The process takes 85 MiB more in this run, most of it V8's code for the module (44 MiB without KV and Durable
  Objects). It is unknown how much of this memory a platform counts.
- **Near misses at no more than four times the cost of prose in the literal search.** With 500 and 5,000 literals they
  cost six to nine times as much. One gram per literal, with the literal's last bytes next to it in the table, made near
  misses 4 % faster: the cost is unpredictable branches, not memory access. Checking many candidates without branches
  makes prose slower.
- **Native matching ten times as fast as rsigma-eval in every row.** Over 4 KiB of English it is eight times as fast.`;

const LIMITATIONS = `## Limitations
- These numbers do not show latency at the edge. Cloudflare's machines differ, and network and origin dominate a
  request.
- Except end to end, these numbers do not include a Worker's fixed costs: isolate, reading the body, HMAC, log line.
- aho-corasick searches for first bytes before it starts its automaton if few bytes begin all literals. Each of the
  5,000 literals begins with one of nine letters, and none of these letters occurs in the Chinese text. The literals of
  signatures begin with many different letters.
- Rows with a peer repeat one body, so a processor learns its branches. "Different bodies" is closer to real traffic,
  and up to four times as slow.
- The generated English is full of the words that signatures search for. From 4 KiB, this text costs two to five times
  as much as everyday words.
- A ratio transfers better to another machine than a time. Neither transfers to another ruleset.
- The start-up profile samples coarsely: it separates 5 ms from 50 ms, but not 5 ms from 6 ms.`;
