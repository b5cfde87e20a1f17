// Measures the latency that a scored WebSocket adds to a message: round trips to an echo origin
// directly, through the filter on a path that is not scored, and through the filter on a scored
// path. The three connections are measured in turn.
//
// node benches/websocket.mjs
import { once } from 'node:events';
import http from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';
import { serve } from './endtoend.mjs';

const ROUNDS = 20;
const MAX_MESSAGES_PER_ROUND = 50;
/**
 * Maximum bytes per connection. The Worker closes a connection if more than 16 MiB seem to wait for
 * a slow client.
 */
const MAX_BYTES = 12 << 20;
const WORDS = ['hedge', 'blackbird', 'garden', 'how', 'often', 'winter', 'leaves', 'cut', 'green'];

/** Returns a text of ordinary words, of at least `bytes` bytes. */
const prose = (bytes) => {
  let text = '';
  for (let i = 0; text.length < bytes; i++) text += `${WORDS[(i * i + 3 * i) % WORDS.length]} `;
  return text;
};
const prompt = (bytes) =>
  JSON.stringify({
    type: 'conversation.item.create',
    item: { type: 'message', role: 'user', content: [{ type: 'input_text', text: prose(bytes) }] },
  });
const audio = (bytes) =>
  JSON.stringify({ type: 'input_audio_buffer.append', audio: 'A'.repeat(bytes) });
const MESSAGES = [
  ['audio, 8 KiB', audio(8 << 10)],
  ['audio, 256 KiB', audio(256 << 10)],
  ['prompt, 1 KiB', prompt(1 << 10)],
  ['prompt, 16 KiB', prompt(16 << 10)],
];

async function startOrigin() {
  const server = http.createServer();
  const sockets = new WebSocketServer({ server, perMessageDeflate: false });
  sockets.on('connection', (socket) =>
    socket.on('message', (data, binary) => socket.send(data, { binary })),
  );
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { server, url: `http://127.0.0.1:${server.address().port}` };
}

async function connect(base, target) {
  const url = new URL(target, base.replace('http', 'ws'));
  const headers = { authorization: 'Bearer sk-bench' };
  const socket = new WebSocket(url, { headers, perMessageDeflate: false });
  await once(socket, 'open');
  return socket;
}

/** Returns the milliseconds of one round trip. */
async function roundTrip(socket, message) {
  const began = performance.now();
  const answer = once(socket, 'message');
  socket.send(message);
  await answer;
  return performance.now() - began;
}

const quantile = (sorted, share) => sorted[Math.floor((sorted.length - 1) * share)];
const micros = (ms) => String(Math.round(ms * 1000));

const origin = await startOrigin();
const { miniflare, url } = await serve('build', origin.url);
const connectAll = async () => [
  ['direct', await connect(origin.url, '/')],
  ['unread', await connect(url, '/chat/socket')],
  ['scored', await connect(url, '/v1/realtime?model=demo')],
];
console.log('| message | direct µs | unread µs | scored µs | added by reading µs | p99 µs |');
console.log('|---|---:|---:|---:|---:|---:|');
for (const [name, message] of MESSAGES) {
  const ways = await connectAll();
  const affordable = Math.floor(MAX_BYTES / (ROUNDS + 1) / message.length);
  const messagesPerRound = Math.min(MAX_MESSAGES_PER_ROUND, affordable);
  const times = new Map(ways.map(([way]) => [way, []]));
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [way, socket] of ways) {
      for (let i = 0; i < messagesPerRound; i++) {
        const ms = await roundTrip(socket, message);
        // The first round is a warm-up.
        if (round > 0) times.get(way).push(ms);
      }
    }
  }
  const sorted = ways.map(([way]) => times.get(way).sort((a, b) => a - b));
  const [direct, unread, scored] = sorted.map((values) => quantile(values, 0.5));
  const cells = [name, ...[direct, unread, scored, scored - unread].map(micros)];
  console.log(`| ${[...cells, micros(quantile(sorted[2], 0.99))].join(' | ')} |`);
  for (const [, socket] of ways) socket.terminate();
}
await miniflare.dispose();
origin.server.close();
