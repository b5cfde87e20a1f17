// What may be pasted into the playground: every form, as people copy it, and what is none.
import { describe, expect, it } from 'vitest';
import { type Choice, read } from '../../www/src/playground/input.ts';
import { InputError } from '../../www/src/playground/problem.ts';
import { decode, encode, type Result } from '../../www/src/playground/share.ts';
import { inText } from '../../www/src/playground/spans.ts';

const NONE: Choice = { form: null, shape: null, entry: null };
const BODY = '{"model":"m","messages":[{"role":"user","content":"Wann blüht die Hecke? ‘now’"}]}';
const told = (text: string, choice: Partial<Choice> = {}) => {
  const { form, method, path, body } = read(text, { ...NONE, ...choice });
  return [form, method, path, body];
};

describe('what is pasted is read', () => {
  const entry = (method: string, url: string, text?: string) => ({ request: { method, url, headers: [{ name: 'Content-Type', value: 'application/json' }], ...(text && { postData: { mimeType: 'application/json', text } }) } });
  const rows: [name: string, text: string, expected: unknown[], choice?: Partial<Choice>][] = [
    ['raw HTTP', `POST /v1/messages HTTP/1.1\nhost: a\n\n${BODY}`, ['http', 'POST', '/v1/messages', BODY]],
    ['raw HTTP with CRLF', `POST /v1/messages HTTP/1.1\r\nhost: a\r\n\r\n${BODY}`, ['http', 'POST', '/v1/messages', BODY]],
    ['an absolute target', `POST https://api.example.com/v1/messages?beta=1 HTTP/1.1\n\n${BODY}`, ['http', 'POST', '/v1/messages', BODY]],
    ['curl', `curl https://api.example.com/v1/chat/completions -H 'authorization: Bearer sk' -d '${BODY.replaceAll('’', '')}'`, ['curl', 'POST', '/v1/chat/completions', BODY.replaceAll('’', '')]],
    ['curl over lines, with --json', `curl \\\n  --request POST \\\n  --url https://h/v1/messages \\\n  --json '{"a": "b c"}'`, ['curl', 'POST', '/v1/messages', '{"a": "b c"}']],
    ['double quotes and escapes', 'curl https://h/v1/messages -d "{\\"a\\": \\"$5\\"}"', ['curl', 'POST', '/v1/messages', '{"a": "$5"}']],
    ['$\'…\'', "curl https://h/v1/messages -d $'{\"a\": \"it\\'s\\n\\u00fc\"}'", ['curl', 'POST', '/v1/messages', '{"a": "it\'s\nü"}']],
    ['several -d', 'curl https://h/v1/messages -d a=1 --data b=2', ['curl', 'POST', '/v1/messages', 'a=1&b=2']],
    ['options with values', 'curl -sS --socks5 localhost:9050 -m 5 -o out.json https://h/v1/messages -d x', ['curl', 'POST', '/v1/messages', 'x']],
    ['Windows', 'curl ^\n  https://h/v1/messages ^\n  -d "x"', ['curl', 'POST', '/v1/messages', 'x']],
    ['a HAR entry', JSON.stringify(entry('POST', 'https://h/v1/messages', BODY)), ['har', 'POST', '/v1/messages', BODY]],
    ['a HAR: its first POST', JSON.stringify({ log: { entries: [entry('GET', 'https://h/'), entry('POST', 'https://h/v1/messages', BODY), entry('POST', 'https://h/v1/responses', '{}')] } }), ['har', 'POST', '/v1/messages', BODY]],
    ['a HAR: another', JSON.stringify({ log: { entries: [entry('GET', 'https://h/'), entry('POST', 'https://h/v1/messages', BODY), entry('POST', 'https://h/v1/responses', '{}')] } }), ['har', 'POST', '/v1/responses', '{}'], { entry: 2 }],
    ['a line of recorded traffic', JSON.stringify({ method: 'POST', path: '/v1/messages', headers: {}, body: BODY }), ['line', 'POST', '/v1/messages', BODY]],
    ['a body of OpenAI', BODY, ['body', 'POST', '/v1/chat/completions', BODY]],
    ['a body of Anthropic', '{"model":"claude-x","max_tokens":5,"system":"s","messages":[]}', ['body', 'POST', '/v1/messages', expect.any(String)]],
    ['a body of Gemini', '{"contents":[{"parts":[{"text":"hi"}]}]}', ['body', 'POST', expect.stringMatching(/:generateContent$/), expect.any(String)]],
    ['a body of responses', '{"model":"m","input":"hi"}', ['body', 'POST', '/v1/responses', expect.any(String)]],
    ['a body of completions', '{"model":"m","prompt":"hi"}', ['body', 'POST', '/v1/completions', expect.any(String)]],
    ['a gateway’s own path, sent elsewhere', `POST /proxy/llm HTTP/1.1\n\n${BODY}`, ['http', 'POST', '/v1/messages', BODY], { shape: 'messages' }],
  ];
  it.each(rows)('%s', (_, text, expected, choice) => expect(told(text, choice)).toEqual(expected));

  it('as a line that has no credential in it', () => {
    const { line } = read(`curl 'https://h/v1/messages?key=sk-secret' -H 'authorization: Bearer sk-secret' -H 'Cookie: a=sk-secret' -H 'x-api-key: sk-secret' -u me:sk-secret -d '{}'`, NONE);
    expect(line).not.toContain('sk-secret');
    expect(JSON.parse(line).headers).toBeDefined();
  });
});

describe('what is none is refused, with what to do', () => {
  const rows: [name: string, text: string][] = [
    ['words', 'hello there'],
    ['a file that curl would read', 'curl https://h/v1/messages -d @body.json'],
    ['an open quote', "curl https://h -d '{"],
    ['curl without an address', 'curl -d x'],
    ['an empty HAR', '{"log":{"entries":[]}}'],
    ['a form', 'curl https://h/v1/files -F file=@x'],
    ['too much', 'x'.repeat(17 << 20)],
  ];
  it.each(rows)('%s', (_, text) => {
    let error: unknown;
    try {
      read(text, NONE);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(InputError);
    expect([(error as InputError).message, (error as InputError).remedy]).toEqual([expect.stringMatching(/\w/), expect.stringMatching(/\w/)]);
  });

  it('whatever else comes, nothing but that is thrown', () => {
    const pieces = ['curl ', '"', "'", '\\', '$', '{', '}', '[', ':', '@', 'POST / ', '\n', '\r\n', '\u0000', 'é', '\ud800', 'http://', '-d ', '-H ', '\\u', '%', 'log', '"entries":'];
    let seed = 7;
    const random = () => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) / 2 ** 32;
    for (let round = 0; round < 5_000; round++) {
      const text = Array.from({ length: 1 + Math.floor(random() * 12) }, () => pieces[Math.floor(random() * pieces.length)]).join('');
      try {
        read(text, NONE);
      } catch (error) {
        expect([text, error instanceof InputError]).toEqual([text, true]);
      }
    }
  });
});

it('byte ranges are found in text of any script', () => {
  const text = 'aé漢😀b';
  const bytes = Buffer.from(text);
  for (const [from, to] of [[0, 1], [1, 2], [2, 3], [3, 5], [5, 6]] as const) {
    const own = text.slice(from, to);
    const start = Buffer.byteLength(text.slice(0, from));
    const [span] = inText(text, [{ start, end: start + Buffer.byteLength(own), name: 'n' } as never]);
    expect(text.slice(span!.start, span!.end)).toBe(own);
    expect(bytes.subarray(start, start + Buffer.byteLength(own)).toString()).toBe(own);
  }
});

describe('a shared result', () => {
  const result: Result = { prior: -20, score: 50, band: 'suspect', action: 'degrade', digest: 'ab'.repeat(32), contributions: [{ family: 'synthesis', raw: 34, capped: 20 }], hits: [{ name: 'synthesis_a', family: 'synthesis', weight: 14 }, { name: 'synthesis_b', family: 'synthesis', weight: 20 }], picked: 'synthesis_b' };
  it('is what was shared', () => expect(decode(encode(result))).toEqual(result));
  it('may be anything, and is then none', () => {
    const good = encode(result);
    for (const text of ['', 'x', '%', 'null', '[]', '{}', good.slice(0, -3), good.slice(4), btoa('{"v":1,"prior":1e999,"families":[]}'), btoa('{"v":1,"families":{}}'), btoa(JSON.stringify({ v: 2 }))]) expect([text, decode(text)]).toEqual([text, null]);
  });
});
