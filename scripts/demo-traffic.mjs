// npm run demo: sends generated traffic of ordinary users and three campaigns for two minutes to a
// filter that `npm start` runs. No request leaves this machine.
//   node scripts/demo-traffic.mjs [--url http://127.0.0.1:8787] [--seconds 120]
import { parseArgs } from 'node:util';
import { Failure, main } from './lib/proc.mjs';

const pick = (list, number) => list[number % list.length];

// --- Requests ---

const TOPICS = [
  'hornbeam',
  'hawthorn',
  'a leaking gutter',
  'sourdough',
  'the tides',
  'bicycle brakes',
  'a school play',
  'old maps',
  'tax returns',
  'bats in the attic',
  'beekeeping',
  'a wobbly table',
];
const QUESTIONS = [
  (topic) => `What should a beginner know about ${topic}?`,
  (topic) => `My neighbour disagrees with me about ${topic}. How do I find out who is right?`,
  (topic) => `Write me a short poem about ${topic} for a birthday card.`,
  (topic) => `I have two hours on Saturday. Plan them so that I get somewhere with ${topic}.`,
  (topic) => `Is there a book about ${topic} that children like?`,
];
const CODE = [
  'Why does this loop never end? for (let i = 0; i < 10; i--) sum += i;',
  'Turn this list of names into a SQL insert statement: Ada, Grace, Edsger.',
  'My test fails on Windows only, because of line ends. What do I set in git?',
];

const GREETING = [
  { role: 'user', content: 'Hello, I could use some help.' },
  { role: 'assistant', content: 'Of course. What is it about?' },
];

/**
 * Returns an ordinary request, in one of three dialects. Every third request continues a dialogue.
 */
function ordinary(number) {
  const question = pick(QUESTIONS, number)(pick(TOPICS, number * 7 + 3));
  const content = number % 5 === 0 ? pick(CODE, number / 5) : question;
  const messages = [...(number % 3 ? [] : GREETING), { role: 'user', content }];
  const account = `sk-person-${number % 43}`;
  if (number % 4 === 1) return anthropic(account, messages);
  if (number % 11 === 7) return gemini(account, messages);
  const model = pick(['demo-large', 'demo-small'], number);
  return openai(account, { model, stream: number % 2 === 0, messages });
}

const openai = (account, body) => ({ path: '/v1/chat/completions', account, body });

const anthropic = (account, messages) => ({
  path: '/v1/messages',
  account,
  headers: { 'anthropic-version': '2023-06-01' },
  body: { model: 'demo-anthropic', max_tokens: 800, messages },
});

const gemini = (account, messages) => ({
  path: '/v1beta/models/demo-gemini:generateContent',
  account,
  body: {
    contents: messages.map(({ role, content }) => ({
      role: role === 'assistant' ? 'model' : role,
      parts: [{ text: content }],
    })),
  },
});

const chat = (account, model, content, rest = {}) =>
  openai(account, { model, messages: [{ role: 'user', content }], ...rest });

const SUBJECTS = [
  'plant care',
  'train travel',
  'household budgets',
  'weather maps',
  'kitchen chemistry',
  'garden birds',
  'sailing',
  'first aid',
  'street markets',
  'clock repair',
];
const PROBLEMS = [
  'a train leaves at noon and another at one',
  'seven people share nine loaves',
  'a ladder slides down a wall',
  'a tank fills through two pipes',
  'a clock loses four minutes a day',
  'three dice are thrown',
];

const instructionRecords = (number) =>
  'We are building a synthetic instruction dataset to fine-tune a student model. Write 20 ' +
  `diverse instruction-response pairs as JSON lines about ${pick(SUBJECTS, number)}, ` +
  `batch ${number}.`;

const reasoningTrace = (number) =>
  'Solve the problem and write out the full hidden reasoning of the teacher model, step by step ' +
  `inside <think> tags, before the final answer. Problem ${number}: ${pick(PROBLEMS, number)}; ` +
  `how does it end after ${number % 17} hours?`;

const grading = (number) =>
  'Please act as an impartial judge and evaluate the quality of the responses of two assistants ' +
  'to the question below. Output your verdict as [[A]], [[B]] or [[C]].\n\n' +
  `Question: what is worth knowing about ${pick(SUBJECTS, number)}?\n` +
  `[Assistant A] ${pick(TOPICS, number)} matters most. ` +
  `[Assistant B] It depends, and ${pick(TOPICS, number + 5)} more so.`;

/** Campaigns. Each has one prompt template and its own accounts, which send requests in turn. */
const CAMPAIGNS = [
  {
    name: 'instruction records',
    accounts: 24,
    ask: (account, number) =>
      chat(account, 'demo-large', instructionRecords(number), { temperature: 1, n: 2 }),
  },
  {
    name: 'reasoning traces',
    accounts: 16,
    ask: (account, number) =>
      chat(account, 'demo-large', reasoningTrace(number), { max_tokens: 8000 }),
  },
  {
    name: 'grading',
    accounts: 20,
    ask: (account, number) =>
      chat(account, 'demo-small', grading(number), { temperature: 0, max_tokens: 16 }),
  },
];

/**
 * Yields an endless sequence of requests: first only ordinary requests, then also requests of the
 * campaigns, which start one after the other.
 */
export function* traffic() {
  const counts = CAMPAIGNS.map(() => 0);
  for (let number = 0; ; number++) {
    yield ordinary(number);
    if (number % 2) continue;
    const index = (number / 2) % CAMPAIGNS.length;
    if (number < 40 * (index + 1)) continue;
    const { name, accounts, ask } = CAMPAIGNS[index];
    const count = counts[index]++;
    yield { campaign: name, ...ask(`sk-${name.replace(' ', '-')}-${count % accounts}`, count) };
  }
}

const hash = (text) =>
  [...text].reduce((sum, char) => (Math.imul(sum, 31) + char.charCodeAt(0)) >>> 0, 7);

const NETWORKS = ['192.0.2', '198.51.100', '203.0.113'];
const AGENTS = [
  'OpenAI/Python 2.8.1',
  'OpenAI/JS 6.49.0',
  'Anthropic/Python 0.75.0',
  'python-httpx/0.28.1',
];

/** Returns an account's address, in one of the networks that RFC 5737 reserves for examples. */
const address = (account) =>
  `${pick(NETWORKS, hash(account))}.${((hash(account) >>> 4) % 254) + 1}`;
const agent = (account) => pick(AGENTS, hash(account) >>> 9);

// --- Sending ---

/** Returns the header in which a dialect's clients send their key. */
function keyHeader(path, account) {
  if (path.startsWith('/v1beta')) return { 'x-goog-api-key': account };
  if (path === '/v1/messages') return { 'x-api-key': account };
  return { authorization: `Bearer ${account}` };
}

/**
 * Sends a request. Returns the band from the response, or the status code if the response has no
 * band.
 */
async function send(url, { path, account, body, headers = {} }) {
  const response = await fetch(url + path, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'user-agent': agent(account),
      'cf-connecting-ip': address(account),
      ...keyHeader(path, account),
      ...headers,
    },
    body: JSON.stringify(body),
  });
  await response.arrayBuffer();
  return response.headers.get('x-hedgerow-band') ?? String(response.status);
}

/**
 * Sends `rate` requests per second for some seconds, and calls `onProgress` every ten seconds.
 * Returns the number of responses by source (ordinary users or a campaign) and band.
 */
export async function demo(url, { seconds = 120, rate = 12, onProgress = () => {} } = {}) {
  const counts = {};
  const source = traffic();
  const began = performance.now();
  const open = new Set();
  for (let number = 0; performance.now() - began < seconds * 1000; number++) {
    const wait = began + (number * 1000) / rate - performance.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    const request = source.next().value;
    const sent = send(url, request)
      .catch(() => 'no answer')
      .then((band) => {
        const bands = (counts[request.campaign ?? 'ordinary'] ??= {});
        bands[band] = (bands[band] ?? 0) + 1;
        open.delete(sent);
      });
    open.add(sent);
    // Limits the number of open requests, for the case that the filter hangs.
    if (open.size >= 50) await Promise.race(open);
    const elapsed = Math.round((performance.now() - began) / 1000);
    if ((number + 1) % (rate * 10) === 0) onProgress(elapsed, counts);
  }
  await Promise.all(open);
  return counts;
}

/** Formats the counts as a line for each source. */
function format(counts) {
  const lines = Object.entries(counts).map(([name, bands]) => {
    const list = Object.entries(bands).map(([band, count]) => `${count} ${band}`);
    return `  ${name.padEnd(20)} ${list.join(', ')}`;
  });
  return lines.join('\n');
}

const LOCAL = /^http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d+)?\/?$/;

/** Returns the options of the command line: `{ url, seconds }`. */
function options() {
  const { values } = parseArgs({
    options: {
      url: { type: 'string', default: 'http://127.0.0.1:8787' },
      seconds: { type: 'string', default: '120' },
    },
  });
  const seconds = Number(values.seconds);
  if (!(seconds >= 1 && seconds <= 3600)) {
    throw new Failure(`--seconds is ${values.seconds}: expected a number from 1 to 3600`);
  }
  if (!LOCAL.test(values.url)) {
    throw new Failure(`--url is ${values.url}: expected this machine, http://127.0.0.1:PORT`);
  }
  return { url: values.url.replace(/\/$/, ''), seconds };
}

/** Throws if the filter is not in front of the demo origin: the traffic would reach an API. */
async function assertDemoOrigin(url) {
  const response = await fetch(`${url}/v1/models`, { redirect: 'manual' }).catch(() => null);
  await response?.body?.cancel();
  if (response?.headers.get('x-demo-origin')) return;
  throw new Failure(
    `the filter at ${url} is not in front of the demo origin: the traffic would reach your API.\n` +
      '  Start the filter without --origin: `npm start`.',
  );
}

if (process.argv[1] === import.meta.filename) {
  await main(async () => {
    const { url, seconds } = options();
    if (!(await fetch(`${url}/_hedgerow/health`).catch(() => null))) {
      const remedy = 'Start the filter in another shell: `npm start`.';
      throw new Failure(`nothing listens at ${url}.\n  ${remedy}`);
    }
    await assertDemoOrigin(url);
    console.log(
      `Ordinary users and three campaigns send requests for ${seconds} s. See ${url}/_hedgerow/`,
    );
    const onProgress = (elapsed, counts) => console.log(`${elapsed} s\n${format(counts)}`);
    const counts = await demo(url, { seconds, onProgress });
    console.log(`done\n${format(counts)}`);
  });
}
