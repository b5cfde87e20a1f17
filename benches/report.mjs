// What `npm run bench` measured, in words and tables.

export const kib = (bytes) => `${(bytes / 1024).toFixed(0)} KiB`;
const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const many = (number) => number.toLocaleString('en');

const of = (rows) => ({
  phases: rows.filter(({ phase, rules, peer }) => !['scan', 'endtoend'].includes(phase) && !rules && peer !== 'rsigma-eval'),
  shipped: rows.filter((row) => row.in_turn_us),
  worst: rows.filter((row) => row.scored),
  sigma: rows.filter(({ peer }) => peer === 'rsigma-eval'),
  scans: rows.filter(({ phase }) => phase === 'scan'),
  ends: rows.filter(({ phase }) => phase === 'endtoend'),
});

/** For the terminal. */
export function tell(result) {
  const { phases, shipped, worst, sigma, scans, ends } = of(result.rows);
  return [phaseTable(phases), shippedTable(shipped), worstTable(worst), sigmaTable(sigma), scanTable(scans), endTable(ends), ...words(result)].join('\n\n');
}

const tableOf = (columns, rows) => {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(columns), `|${columns.map((name) => (/^(phase|host|text|body|against)$/.test(name) ? '---' : '---:')).join('|')}|`, ...rows.map(line)].join('\n');
};

const phaseTable = (rows) =>
  tableOf(['phase', 'host', 'text', 'literals', 'bytes', 'ours µs', 'JavaScript µs', 'ratio'], rows.map((r) => [r.phase, r.host, r.text, r.literals, r.bytes, r.ours_us, r.peer_us ?? '–', r.ratio ?? '–']));

const shippedTable = (rows) =>
  tableOf(['text', 'bytes', 'ours µs', 'JavaScript µs', 'ratio', 'others in turn µs'], rows.map((r) => [r.agrees ? r.text : `${r.text} *`, r.bytes, r.ours_us, r.peer_us, r.ratio, r.in_turn_us]));

const worstTable = (rows) => tableOf(['body', 'bytes', 'of them scored', 'ms'], rows.map((r) => [r.text, r.bytes, r.scored, (r.ours_us / 1000).toFixed(2)]));

const sigmaTable = (rows) =>
  tableOf(['text', 'bytes', 'ours µs', 'rsigma-eval µs', 'as fast'], rows.map((r) => [r.text, r.bytes, r.ours_us, r.peer_us, `${Math.round(1 / r.ratio)} ×`]));

const endTable = (rows) =>
  tableOf(['bytes', 'connections', 'against', 'ours µs a request', 'theirs', 'throughput', 'p50', 'p99'], rows.map((r) => [r.bytes, r.connections, r.peer, r.ours_us, r.peer_us, (1 / r.ratio).toFixed(2), `${r.p50_ratio} ×`, `${r.p99_ratio} ×`]));

function scanTable(scans) {
  const speed = ({ bytes }, us) => (bytes / us / 1000).toFixed(2);
  const floor = (row) => scans.find((other) => other.peer === 'floor' && ['bytes', 'text', 'literals'].every((key) => other[key] === row[key]));
  const rows = scans.filter(({ peer }) => peer === 'aho-corasick');
  return tableOf(['literals', 'text', 'bytes', 'ours GB/s', 'aho-corasick GB/s', 'floor GB/s', 'as fast as aho-corasick'], rows.map((r) => [r.literals, r.text, r.bytes, speed(r, r.ours_us), speed(r, r.peer_us), speed(r, floor(r).peer_us), `${(1 / r.ratio).toFixed(1)} ×`]));
}

/** What is no table. */
function words({ memory, reload, indicators, flood, online, replay, simulate, wasm, startup_ms, playground_instantiate_ms }) {
  const process = memory.ours
    ? `the process of workerd takes ${mib(memory.ours.process)} with the filter, ${mib(memory['bare-rust'].process)} with the bare Worker in Rust, ${mib(memory['bare-js'].process)} with the one in JavaScript (proportional set size); of that V8's heap has ${mib(memory.ours.heap)}, ${mib(memory['bare-rust'].heap)} and ${mib(memory['bare-js'].heap)}`
    : 'workerd was not measured';
  const grown = ({ empty, loaded, scored }) => `${mib(loaded)}, ${mib(scored)} after a hundred bodies of 4 KiB (${mib(empty)} before)`;
  return [
    `The Worker's Wasm: ${kib(wasm.raw)} raw, ${kib(wasm.gzip)} gzip. Start-up: ${startup_ms ?? 'not measured'} ms active (\`wrangler check startup\`).
The playground module, compiled, instantiated and given a bundle in Node: ${playground_instantiate_ms} ms.`,
    `Memory of Wasm with the shipped rules: ${grown(memory.wasm.shipped)}; with 5,000 literals in 500 signatures: ${grown(memory.wasm[5000])}. After twenty requests ${process}. The rest is V8's code for the module, and for the filter KV and objects that the local simulation has in the same process.`,
    `Taking over a release: the shipped bundle (${kib(reload.bytes)}, ${reload.signatures} signatures) is read and compiled in Wasm in ${reload.load_ms} ms, with every regex in ${reload.check_ms} ms. Of that, the tables of the search are built in ${reload.tables_ms} ms; shipped, they would be ${kib(reload.tables_bytes)} more (JavaScript's JSON.parse alone takes ${reload.json_parse_ms} ms for the bundle).`,
    `Taking over indicators: ${many(indicators.count)} of them (${kib(indicators.bytes)}) are read in Wasm in ${indicators.load_ms} ms; with the platform’s HMAC, in a process that has just started, in ${indicators.cold_ms} ms.`,
    `A correlator of the shipped rules in ${kib(flood.limit)}, flooded with ${many(flood.keys)} template keys that one account each has once: takes ${kib(flood.bytes)} at most; of ${flood.shared} templates in the flood that some 600 accounts share each, ${flood.found} are found, their accounts counted to ${(100 * flood.error).toFixed(0)} %; ${flood.us.toFixed(1)} µs a request, natively.`,
    `Correlators in workerd, with \`REFRESH_SECONDS=1\` (\`tests/edge/correlate.spec.ts\`):
${online.map((words) => `- ${words}`).join('\n')}`,
    `\`hedgerow replay\` on one core: ${many(replay.requests_per_s)} requests/s, for ${many(replay.requests)} chats of about ${kib(replay.body_bytes)} (a quarter of them code) by the shipped rules.
\`hedgerow simulate ${simulate.scenario} --scale 0.004\` on one core: ${many(simulate.requests_per_s)} requests/s, ${many(simulate.alone_per_s)} with \`--no-correlate\`.`,
  ];
}

/** For docs/benchmarks.md. */
export function markdown(result) {
  const { phases, shipped, worst, sigma, scans, ends } = of(result.rows);
  const { rounds, sample_ms, ...about } = result.about;
  return `# Benchmarks

Written by \`npm run bench\`. Ratio = ours / theirs in time, both measured in the same run; below 1 is faster.

## The whole, by the shipped rules

In Wasm, the copy into its memory included, against JavaScript that goes by the same bundle (\`benches/peer-shipped.mjs\`):

${shippedTable(shipped)}

Where there is a *, the peer finds other signatures: it does not normalise, and knows no literal that overlaps another one.

Bodies that are made to be dear; what is beyond the scan window is not scored:

${worstTable(worst)}

## End to end

Requests by wrk through workerd to an origin in Node on the same two cores, everyday text. Throughput is ours / theirs.
\`bare-rust\` and \`bare-js\` pass requests on without looking at them; \`reading-js\` reads the body, writes a line of log, and passes it on: what any filter that looks at bodies does at least.

${endTable(ends)}

${PROFILE}

## The search for literals alone

In Wasm, over normalised text:

${scanTable(scans)}

## Matching natively

Against rsigma-eval with the same signatures on the same text, which both find as many in:

${sigmaTable(sigma)}

## Start, memory, rules, correlation

${words(result).join('\n\n')}

## Phases, by generated rules

${phaseTable(phases)}

## Run
${Object.entries(about).map(([name, value]) => `- ${name}: ${value}`).join('\n')}

## Method
- Bodies are generated (\`benches/bodies.mjs\`): chats in everyday words, in English that is full of the words that signatures look for, with code, in
  Chinese, of base64, and of near misses of literals. Generated rules are signatures of ten literals each over all message text.
- \`extract\`: body to fields. \`match\`: fields to hits, normalisation of the text included. \`sketch\`: text to the template keys and the digest that
  correlation counts by; nobody else does that. \`score\`: hits to a score. \`whole\`: all of it from the bytes; in Wasm one call from JavaScript with the copy into
  Wasm memory. \`scan\`: the search for literals alone, telling every occurrence, against aho-corasick's DFA (overlapping matches) and the floor, a
  sum over the bytes; both must find as many.
- \`npm run bench\` fails where the whole by the shipped rules takes more than a quarter of the peer's time at 4 KiB or 0.6 of it above, or by 500 generated
  literals, over English and code from 4 KiB on, the whole and the sketch more than half.
- The peers are JavaScript in the same V8. By generated rules (\`benches/peer.mjs\`): decode, JSON.parse, one case-insensitive alternation RegExp per field,
  a sum of weights. By the shipped rules (\`benches/peer-shipped.mjs\`): lower case, one alternation for all, conditions no further than they have to
  be looked at and what is cheap first, so that a regex runs only where the rest leaves it open. Neither normalises (NFKC, white space, look-alikes); both read one dialect and trust their input.
- Samples of about ${sample_ms} ms, ours and the peer's in turn, ${rounds} each; medians.
- Native rows are \`cargo bench --bench native\` on the same files, set against the peer of this run.

${MISSED}

${UNSAID}
`;
}

/** What `npm run profile` printed on 2026-11-27: it is not measured with the rest. */
const PROFILE = `Where the time goes, by \`npm run profile\` on 2026-11-27, of 591 µs that a request of 4 KiB takes on workerd's thread while it is profiled (16 connections; the bare Worker in Rust takes
267): scoring 96, of that reading and matching 77, matching alone 45; waiting 63; the line of log 44; \`fetch\` and the request for it 42; V8 itself 37 (bare: 41), its garbage collection 29 (12); reading the
body 22; headers into Wasm 22; wake-ups by microtasks 21 (20); the correlator, which in production is another isolate, 20; the rest is spread over some hundred calls. Where nothing else runs between, scoring takes a fifth of
that (above). Reading and logging alone (\`reading-js\`) leave little of what the target allows. Next would be fewer wake-ups and calls: one future for reading, scoring and sending, and headers that are asked for by name.`;

const MISSED = `## Targets that are missed
- The whole was to take a quarter of the JavaScript peer's time at 4 KiB, which it does by the shipped rules and by generated ones, and an eighth at 64 KiB
  and above. By generated rules it takes between a sixth and a fifth of that, and as much as four fifths over Chinese, which the peer does not normalise. By the shipped rules
  only base64 keeps it; everyday text and code take 0.13 to 0.28, near misses up to 0.3, Chinese up to 0.37, a megabyte of signatures' words 0.56. By the profile, four fifths of
  what everyday text costs are the search: one in five of its positions has four bytes of some short literal, and no processor foresees which (2.5 ns a byte for 32 KiB
  again and again, 4.7 for others in turn). Next would be six bytes instead of four for literals of seven and more, from the same load: a third fewer such positions over recorded requests, by a count. Of a megabyte of signatures' words, half is lazily built automata of some
  regexes, which outgrow the megabyte that each may have and are begun anew; with three it was a quarter faster, and a hostile text could have three times the memory.
- End to end, throughput was to be 0.9 of the bare Worker's at 4 KiB and 0.85 at 64 KiB; see above.
- The Wasm was to take 450 KiB gzipped; it takes more than twice that. Of 1,056 KiB (2026-11-27), 808 are code, 64 the embedded rules, 160 other
  data. Of the code, before wasm-opt and gzip, 31 % are the core (\`hedgerow\`), 27 % the Worker with registry, ledger, correlators and admin API, 13 % regexes
  (\`benches/size.json\`); no function has more than 1.4 %. Optimised for size throughout it was a tenth less, and slower. Next would be two modules: what scores, and what keeps.
- An isolate was to take 16 MiB more than a bare Worker's. By Wasm memory and V8's heap together it does, with 4 MiB; its process here takes 85 MiB more, most of it V8's code
  for the module (without KV and objects it was 44 MiB), and what of that a platform counts we do not know.
- A near miss was to cost no more than four times what prose costs; it costs six to nine times. A gram of its own for each literal, with its last bytes beside it in the table, made that
  4 % better: it is branches that no processor foresees, not memory, and looking at many candidates without branches makes prose slower.
- Natively, matching was to be ten times as fast as rsigma-eval in every row; over 4 KiB of signatures' words it is eight times.`;

const UNSAID = `## What the numbers do not say
- Nothing about latency at the edge: Cloudflare's machines differ, and network and origin dominate a request.
- Nothing about a Worker's fixed costs (isolate, reading the body, HMAC, log line), but end to end.
- aho-corasick looks for first bytes before it steps where few bytes begin all literals: the 5,000 begin with nine letters, none of which is in the
  Chinese text. Literals of signatures begin with many.
- Against the peer, rows repeat one body: a processor learns its branches by heart. "Others in turn" is nearer to life, and up to three times as slow.
- English text of the generator is full of the words that signatures look for, which costs three times what everyday words cost.
- A ratio transfers better to another machine than a time does, and neither transfers to another ruleset.
- The start-up profile samples coarsely; tell 5 ms from 50 by it, not 5 from 6.`;
