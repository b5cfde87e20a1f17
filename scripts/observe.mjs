// npm run observe: runs a Prometheus that scrapes the filter of `npm start` each few seconds, with
// the rules and alerts of docs/prometheus, and prints each alert that begins or ends. It listens
// only on 127.0.0.1.
//   node scripts/observe.mjs [--url http://127.0.0.1:8787] [--port 9090] [--interval 5]
//                            [--token-file .wrangler/dev-token] [--directory .wrangler/prometheus]
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { endChildrenOnSignal, Failure, fromRoot, main, start, tryCapture } from './lib/proc.mjs';

/** Milliseconds between two looks at the alerts. */
const POLL_MS = 2_000;
/** Milliseconds after which the first scrape must have succeeded. */
const PATIENCE_MS = 60_000;

const { values: options } = parseArgs({
  options: {
    url: { type: 'string', default: 'http://127.0.0.1:8787' },
    port: { type: 'string', default: '9090' },
    interval: { type: 'string', default: '5' },
    'token-file': { type: 'string', default: fromRoot('.wrangler/dev-token') },
    directory: { type: 'string', default: fromRoot('.wrangler/prometheus') },
  },
});

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Returns the configuration of Prometheus. Paths are JSON strings, which are also valid YAML. */
function configuration() {
  const { host, protocol } = new URL(options.url);
  const rules = ['rules.yml', 'alerts.yml'].map((name) => fromRoot('docs/prometheus', name));
  return `global: { evaluation_interval: ${options.interval}s }
rule_files: ${JSON.stringify(rules)}
scrape_configs:
  - job_name: hedgerow
    metrics_path: /_hedgerow/v1/metrics
    scheme: ${protocol.slice(0, -1)}
    authorization: { credentials_file: ${JSON.stringify(path.resolve(options['token-file']))} }
    scrape_interval: ${options.interval}s
    scrape_timeout: ${options.interval}s
    static_configs: [{ targets: [${JSON.stringify(host)}] }]
`;
}

/** Starts Prometheus with an empty database. */
function startPrometheus() {
  if (!tryCapture('prometheus', ['--version'])) {
    const remedy = 'Install it (Debian: `apt-get install prometheus`), and try again.';
    throw new Failure(`prometheus was not found.\n  ${remedy}`);
  }
  if (!existsSync(options['token-file'])) {
    const remedy = 'Run `npm start` first, in another shell, or give --token-file.';
    throw new Failure(`${options['token-file']} does not exist.\n  ${remedy}`);
  }
  mkdirSync(options.directory, { recursive: true });
  const file = path.join(options.directory, 'prometheus.yml');
  writeFileSync(file, configuration());
  return start('prometheus', [
    `--config.file=${file}`,
    `--storage.tsdb.path=${path.join(options.directory, `data-${Date.now()}`)}`,
    '--storage.tsdb.retention.time=1d',
    `--web.listen-address=127.0.0.1:${options.port}`,
    '--log.level=warn',
  ]);
}

/** Asks the API of Prometheus; returns null if it does not answer. */
async function ask(query) {
  try {
    const response = await fetch(`http://127.0.0.1:${options.port}/api/v1/${query}`);
    return (await response.json()).data;
  } catch {
    return null;
  }
}

/** Waits for the first successful scrape. Throws if there is none, with the reason. */
async function firstScrape() {
  const end = Date.now() + PATIENCE_MS;
  let problem = 'Prometheus does not answer';
  while (Date.now() < end) {
    const target = (await ask('targets'))?.activeTargets?.[0];
    if (target?.health === 'up') return;
    problem = target?.lastError || problem;
    await sleep(500);
  }
  throw new Failure(`${options.url}/_hedgerow/v1/metrics cannot be scraped: ${problem}`);
}

/** Prints each alert that begins or ends. */
async function followAlerts() {
  let firing = new Map();
  for (;;) {
    const alerts = (await ask('alerts'))?.alerts ?? [];
    const now = new Map(
      alerts
        .filter(({ state }) => state === 'firing')
        .map(({ labels, annotations }) => [labels.alertname, annotations.summary]),
    );
    for (const [name, summary] of now)
      if (!firing.has(name)) console.log(`alert   ${name}: ${summary}`);
    for (const name of firing.keys()) if (!now.has(name)) console.log(`ended   ${name}`);
    firing = now;
    await sleep(POLL_MS);
  }
}

await main(async () => {
  endChildrenOnSignal();
  const prometheus = startPrometheus();
  let output = '';
  const keep = (data) => (output = (output + data).slice(-4_000));
  prometheus.stdout.on('data', keep);
  prometheus.stderr.on('data', keep);
  const ended = new Promise((_, fail) =>
    prometheus.once('exit', (code) => fail(new Failure(`prometheus ended (${code}):\n${output}`))),
  );
  await Promise.race([ended, firstScrape()]);
  console.log(`Prometheus scrapes ${options.url} each ${options.interval} s.

  graphs   http://127.0.0.1:${options.port}/graph?g0.expr=hedgerow:requests:rate5m
  alerts   http://127.0.0.1:${options.port}/alerts

Run \`npm run demo\` in another shell for generated traffic. Ctrl-C ends Prometheus.
`);
  await Promise.race([ended, followAlerts()]);
});
