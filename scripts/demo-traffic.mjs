// npm run demo: traffic for a filter that `npm start` runs. Ordinary people and three campaigns ask for some two minutes,
// then it ends by itself. Nothing of it leaves this machine.
//   node scripts/demo-traffic.mjs [--url http://127.0.0.1:8787] [--seconds 120]
import { parseArgs } from 'node:util';
import { Failure, main } from './lib/proc.mjs';

const pick = (list, number) => list[number % list.length];

// --- Who asks what ----------------------------------------------------------------------------------------------

const TOPICS = ['hornbeam', 'hawthorn', 'a leaking gutter', 'sourdough', 'the tides', 'bicycle brakes', 'a school play', 'old maps', 'tax returns', 'bats in the attic', 'beekeeping', 'a wobbly table'];
const QUESTIONS = [
  (topic) => `What should a beginner know about ${topic}?`,
  (topic) => `My neighbour disagrees with me about ${topic}. How do I find out who is right?`,
  (topic) => `Write me a short poem about ${topic} for a birthday card.`,
  (topic) => `I have two hours on Saturday. Plan them so that I get somewhere with ${topic}.`,
  (topic) => `Is there a book about ${topic} that children like?`,
];
const CODE = ['Why does this loop never end? for (let i = 0; i < 10; i--) sum += i;', 'Turn this list of names into a SQL insert statement: Ada, Grace, Edsger.', 'My test fails on Windows only, because of line ends. What do I set in git?'];

/** What a person asks: in one of three dialects, now and then with a conversation behind it. */
function ordinary(number) {
  const content = number % 5 === 0 ? pick(CODE, number / 5) : pick(QUESTIONS, number)(pick(TOPICS, number * 7 + 3));
  const before = number % 3 ? [] : [{ role: 'user', content: 'Hello, I could use some help.' }, { role: 'assistant', content: 'Of course. What is it about?' }];
  const messages = [...before, { role: 'user', content }];
  const account = `sk-person-${number % 43}`;
  if (number % 4 === 1) return { path: '/v1/messages', account, headers: { 'anthropic-version': '2023-06-01' }, body: { model: 'demo-anthropic', max_tokens: 800, messages } };
  if (number % 11 === 7) return { path: '/v1beta/models/demo-gemini:generateContent', account, body: { contents: messages.map(({ role, content }) => ({ role: role === 'assistant' ? 'model' : role, parts: [{ text: content }] })) } };
  return { path: '/v1/chat/completions', account, body: { model: pick(['demo-large', 'demo-small'], number), stream: number % 2 === 0, messages } };
}

const chat = (account, model, content, rest = {}) => ({ path: '/v1/chat/completions', account, body: { model, messages: [{ role: 'user', content }], ...rest } });
const SUBJECTS = ['plant care', 'train travel', 'household budgets', 'weather maps', 'kitchen chemistry', 'garden birds', 'sailing', 'first aid', 'street markets', 'clock repair'];
const PROBLEMS = ['a train leaves at noon and another at one', 'seven people share nine loaves', 'a ladder slides down a wall', 'a tank fills through two pipes', 'a clock loses four minutes a day', 'three dice are thrown'];

/** Campaigns: one template each, spread evenly over accounts of its own. */
const CAMPAIGNS = [
  {
    name: 'instruction records',
    accounts: 24,
    ask: (account, number) => chat(account, 'demo-large', `We are building a synthetic instruction dataset to fine-tune a student model. Write 20 diverse instruction-response pairs as JSON lines about ${pick(SUBJECTS, number)}, batch ${number}.`, { temperature: 1, n: 2 }),
  },
  {
    name: 'reasoning traces',
    accounts: 16,
    ask: (account, number) => chat(account, 'demo-large', `Solve the problem and write out the full hidden reasoning of the teacher model, step by step inside <think> tags, before the final answer. Problem ${number}: ${pick(PROBLEMS, number)}; how does it end after ${number % 17} hours?`, { max_tokens: 8000 }),
  },
  {
    name: 'grading',
    accounts: 20,
    ask: (account, number) => chat(account, 'demo-small', `Please act as an impartial judge and evaluate the quality of the responses of two assistants to the question below. Output your verdict as [[A]], [[B]] or [[C]].\n\nQuestion: what is worth knowing about ${pick(SUBJECTS, number)}?\n[Assistant A] ${pick(TOPICS, number)} matters most. [Assistant B] It depends, and ${pick(TOPICS, number + 5)} more so.`, { temperature: 0, max_tokens: 16 }),
  },
];

/** All of it in order: ordinary people at first; then campaigns set in, one after the other. */
export function* traffic() {
  const counts = CAMPAIGNS.map(() => 0);
  for (let number = 0; ; number++) {
    yield ordinary(number);
    if (number % 2) continue;
    const place = (number / 2) % CAMPAIGNS.length;
    if (number < 40 * (place + 1)) continue;
    const { name, accounts, ask } = CAMPAIGNS[place];
    const own = counts[place]++;
    yield { campaign: name, ...ask(`sk-${name.replace(' ', '-')}-${own % accounts}`, own) };
  }
}

const hash = (text) => [...text].reduce((sum, sign) => (Math.imul(sum, 31) + sign.charCodeAt(0)) >>> 0, 7);

/** Each account comes from an address of its own, of those that are kept for documentation. */
const address = (account) => `${pick(['192.0.2', '198.51.100', '203.0.113'], hash(account))}.${(hash(account) >>> 4) % 254 + 1}`;
const agent = (account) => pick(['OpenAI/Python 2.8.1', 'OpenAI/JS 6.49.0', 'Anthropic/Python 0.75.0', 'python-httpx/0.28.1'], hash(account) >>> 9);

// --- Asking -----------------------------------------------------------------------------------------------------

async function send(url, { path, account, body, headers = {} }) {
  const key = path.startsWith('/v1beta') ? { 'x-goog-api-key': account } : path === '/v1/messages' ? { 'x-api-key': account } : { authorization: `Bearer ${account}` };
  const response = await fetch(url + path, { method: 'POST', headers: { 'content-type': 'application/json', 'user-agent': agent(account), 'cf-connecting-ip': address(account), ...key, ...headers }, body: JSON.stringify(body) });
  await response.arrayBuffer();
  return response.headers.get('x-hedgerow-band') ?? String(response.status);
}

/** Asks `rate` times a second for so many seconds. Returns how many were answered, by who asked and band. */
export async function demo(url, { seconds = 120, rate = 12, told = () => {} } = {}) {
  const counts = {};
  const source = traffic();
  const began = performance.now();
  const open = new Set();
  for (let number = 0; performance.now() - began < seconds * 1000; number++) {
    const wait = began + (number * 1000) / rate - performance.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    const request = source.next().value;
    const asked = send(url, request)
      .catch(() => 'no answer')
      .then((band) => {
        const own = (counts[request.campaign ?? 'ordinary'] ??= {});
        own[band] = (own[band] ?? 0) + 1;
        open.delete(asked);
      });
    open.add(asked);
    // A filter that hangs is no reason to pile up requests.
    if (open.size >= 50) await Promise.race(open);
    if (number % (rate * 10) === rate * 10 - 1) told(Math.round((performance.now() - began) / 1000), counts);
  }
  await Promise.all(open);
  return counts;
}

const line = (counts) => Object.entries(counts).map(([name, bands]) => `  ${name.padEnd(20)} ${Object.entries(bands).map(([band, count]) => `${count} ${band}`).join(', ')}`).join('\n');

if (process.argv[1] === import.meta.filename) {
  await main(async () => {
    const { values } = parseArgs({ options: { url: { type: 'string', default: 'http://127.0.0.1:8787' }, seconds: { type: 'string', default: '120' } } });
    const seconds = Number(values.seconds);
    if (!(seconds >= 1 && seconds <= 3600)) throw new Failure('--seconds takes a number from 1 to 3600');
    if (!/^http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d+)?\/?$/.test(values.url)) throw new Failure('--url takes this machine only: http://127.0.0.1:PORT');
    const url = values.url.replace(/\/$/, '');
    if (!(await fetch(`${url}/_hedgerow/health`).catch(() => null))) throw new Failure(`nobody listens at ${url}.\n  Start the filter in another shell: \`npm start\`.`);
    console.log(`Ordinary people and three campaigns ask for ${seconds} s. See ${url}/_hedgerow/`);
    const counts = await demo(url, { seconds, told: (at, counts) => console.log(`${at} s\n${line(counts)}`) });
    console.log(`done\n${line(counts)}`);
  });
}
