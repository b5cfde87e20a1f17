// The playground parses pasted text as requests, and encodes results as links.
import { describe, expect, it } from 'vitest';
import { InputError } from '../../www/src/playground/input-error.ts';
import { parseInput, type ParseOptions } from '../../www/src/playground/parse-input.ts';
import { decode, encode, type Result } from '../../www/src/playground/share-link.ts';
import { splitStretches, toTextSpans } from '../../www/src/playground/spans.ts';

const DETECT_ALL: ParseOptions = { format: null, shape: null, entry: null };
const BODY = '{"model":"m","messages":[{"role":"user","content":"Wann blüht die Hecke? ‘now’"}]}';
const UNQUOTED_BODY = BODY.replaceAll('’', '');

const parse = (text: string, options: Partial<ParseOptions> = {}) => {
  const { format, method, path, body } = parseInput(text, { ...DETECT_ALL, ...options });
  return [format, method, path, body];
};

const harEntry = (method: string, url: string, text?: string) => ({
  request: {
    method,
    url,
    headers: [{ name: 'Content-Type', value: 'application/json' }],
    ...(text && { postData: { mimeType: 'application/json', text } }),
  },
});
const HAR = JSON.stringify({
  log: {
    entries: [
      harEntry('GET', 'https://h/'),
      harEntry('POST', 'https://h/v1/messages', BODY),
      harEntry('POST', 'https://h/v1/responses', '{}'),
    ],
  },
});

interface Row {
  name: string;
  text: string;
  expected: unknown[];
  options?: Partial<ParseOptions>;
}

const ROWS: Row[] = [
  {
    name: 'raw HTTP',
    text: `POST /v1/messages HTTP/1.1\nhost: a\n\n${BODY}`,
    expected: ['http', 'POST', '/v1/messages', BODY],
  },
  {
    name: 'raw HTTP with CRLF',
    text: `POST /v1/messages HTTP/1.1\r\nhost: a\r\n\r\n${BODY}`,
    expected: ['http', 'POST', '/v1/messages', BODY],
  },
  {
    name: 'raw HTTP with an absolute target',
    text: `POST https://api.example.com/v1/messages?beta=1 HTTP/1.1\n\n${BODY}`,
    expected: ['http', 'POST', '/v1/messages', BODY],
  },
  {
    name: 'raw HTTP with a path of a gateway, and a chosen API',
    text: `POST /proxy/llm HTTP/1.1\n\n${BODY}`,
    expected: ['http', 'POST', '/v1/messages', BODY],
    options: { shape: 'messages' },
  },
  {
    name: 'curl',
    text: `curl https://h/v1/chat/completions -H 'authorization: Bearer sk' -d '${UNQUOTED_BODY}'`,
    expected: ['curl', 'POST', '/v1/chat/completions', UNQUOTED_BODY],
  },
  {
    name: 'curl in several lines, with --json',
    text: `curl \\\n  --request POST \\\n  --url https://h/v1/messages \\\n  --json '{"a": "b c"}'`,
    expected: ['curl', 'POST', '/v1/messages', '{"a": "b c"}'],
  },
  {
    name: 'curl with escapes in double quotes',
    text: 'curl https://h/v1/messages -d "{\\"a\\": \\"$5\\"}"',
    expected: ['curl', 'POST', '/v1/messages', '{"a": "$5"}'],
  },
  {
    name: "curl with $'…'",
    text: 'curl https://h/v1/messages -d $\'{"a": "it\\\'s\\n\\u00fc"}\'',
    expected: ['curl', 'POST', '/v1/messages', '{"a": "it\'s\nü"}'],
  },
  {
    name: 'curl with several -d',
    text: 'curl https://h/v1/messages -d a=1 --data b=2',
    expected: ['curl', 'POST', '/v1/messages', 'a=1&b=2'],
  },
  {
    name: 'curl with ignored options that have values',
    text: 'curl -sS --socks5 localhost:9050 -m 5 -o out.json https://h/v1/messages -d x',
    expected: ['curl', 'POST', '/v1/messages', 'x'],
  },
  {
    name: 'curl for the Windows prompt',
    text: 'curl ^\n  https://h/v1/messages ^\n  -d "x"',
    expected: ['curl', 'POST', '/v1/messages', 'x'],
  },
  {
    name: 'a HAR entry',
    text: JSON.stringify(harEntry('POST', 'https://h/v1/messages', BODY)),
    expected: ['har', 'POST', '/v1/messages', BODY],
  },
  {
    name: 'the first POST of a HAR',
    text: HAR,
    expected: ['har', 'POST', '/v1/messages', BODY],
  },
  {
    name: 'a chosen entry of a HAR',
    text: HAR,
    expected: ['har', 'POST', '/v1/responses', '{}'],
    options: { entry: 2 },
  },
  {
    name: 'a line of recorded traffic',
    text: JSON.stringify({ method: 'POST', path: '/v1/messages', headers: {}, body: BODY }),
    expected: ['line', 'POST', '/v1/messages', BODY],
  },
  {
    name: 'a body of OpenAI chat completions',
    text: BODY,
    expected: ['body', 'POST', '/v1/chat/completions', BODY],
  },
  {
    name: 'a body of Anthropic',
    text: '{"model":"claude-x","max_tokens":5,"system":"s","messages":[]}',
    expected: ['body', 'POST', '/v1/messages', expect.any(String)],
  },
  {
    name: 'a body of Gemini',
    text: '{"contents":[{"parts":[{"text":"hi"}]}]}',
    expected: ['body', 'POST', expect.stringMatching(/:generateContent$/), expect.any(String)],
  },
  {
    name: 'a body of OpenAI responses',
    text: '{"model":"m","input":"hi"}',
    expected: ['body', 'POST', '/v1/responses', expect.any(String)],
  },
  {
    name: 'a body of OpenAI completions',
    text: '{"model":"m","prompt":"hi"}',
    expected: ['body', 'POST', '/v1/completions', expect.any(String)],
  },
];

describe('pasted text is parsed', () => {
  it.each(ROWS)('$name', ({ text, expected, options }) =>
    expect(parse(text, options)).toEqual(expected),
  );

  it('without credentials', () => {
    const command = [
      "curl 'https://h/v1/messages?key=sk-secret' -H 'authorization: Bearer sk-secret'",
      "-H 'Cookie: a=sk-secret' -H 'x-api-key: sk-secret' -u me:sk-secret -d '{}'",
    ].join(' ');
    const { line } = parseInput(command, DETECT_ALL);
    expect(line).not.toContain('sk-secret');
    expect(JSON.parse(line).headers).toContainEqual(['authorization', 'hidden']);
  });
});

describe('invalid text is rejected with a remedy', () => {
  it.each([
    ['words', 'hello there'],
    ['curl with a file', 'curl https://h/v1/messages -d @body.json'],
    ['curl with an open quote', "curl https://h -d '{"],
    ['curl without an address', 'curl -d x'],
    ['curl with a form', 'curl https://h/v1/files -F file=@x'],
    ['an empty HAR', '{"log":{"entries":[]}}'],
    ['too long text', 'x'.repeat(17 << 20)],
  ])('%s', (_, text) => {
    let error: unknown;
    try {
      parseInput(text, DETECT_ALL);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(InputError);
    const { message, remedy } = error as InputError;
    expect(message).toMatch(/\w/);
    expect(remedy).toMatch(/\w/);
  });

  it('random text causes no other error', () => {
    const quotes = ['"', "'", '\\', '$', '\n', '\r\n', '\u0000', 'é', '\ud800'];
    const syntax = ['{', '}', '[', ':', '@', '\\u', '%', 'log', '"entries":'];
    const commands = ['curl ', 'POST / ', 'http://', '-d ', '-H '];
    const pieces = [...quotes, ...syntax, ...commands];
    let seed = 7;
    const random = () => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) / 2 ** 32;
    const piece = () => pieces[Math.floor(random() * pieces.length)];
    for (let round = 0; round < 5_000; round++) {
      const text = Array.from({ length: 1 + Math.floor(random() * 12) }, piece).join('');
      try {
        parseInput(text, DETECT_ALL);
      } catch (error) {
        expect([text, error instanceof InputError]).toEqual([text, true]);
      }
    }
  });
});

describe('byte ranges are converted to text ranges', () => {
  it.each([
    [0, 1],
    [1, 2],
    [2, 3],
    [3, 5],
    [5, 6],
  ])('%i to %i', (from, to) => {
    const text = 'aé漢😀b';
    const start = Buffer.byteLength(text.slice(0, from));
    const end = Buffer.byteLength(text.slice(0, to));
    const spans = toTextSpans(text, [{ name: 'n', start, end }]);
    expect(spans).toEqual([{ name: 'n', start: from, end: to }]);
  });
});

describe('parts are grouped by passage', () => {
  const A = { start: 2, end: 6 };
  const B = { start: 6, end: 9 };
  const part = (from: number, to: number, names: string[] = []) => ({ from, to, names });
  const rows = [
    { name: 'no passage', parts: [part(0, 9)], passages: [], expected: [[null, '0-9']] },
    {
      name: 'gaps, in any order of passages',
      parts: [part(0, 12)],
      passages: [B, A],
      expected: [
        [null, '0-2'],
        [A, '2-6'],
        [B, '6-9'],
        [null, '9-12'],
      ],
    },
    {
      name: 'a match within a passage, and one across its end',
      parts: [part(0, 3), part(3, 4, ['m']), part(4, 5), part(5, 8, ['n']), part(8, 9)],
      passages: [A, B],
      expected: [
        [null, '0-2'],
        [A, '2-3 3-4m 4-5 5-6n'],
        [B, '6-8n 8-9'],
      ],
    },
    {
      name: 'a part of a long text',
      parts: [part(4, 7)],
      passages: [A, B],
      expected: [
        [A, '4-6'],
        [B, '6-7'],
      ],
    },
    {
      name: 'passages that overlap',
      parts: [part(0, 9)],
      passages: [{ start: 0, end: 5 }, A],
      expected: [
        [{ start: 0, end: 5 }, '0-5'],
        [A, '5-6'],
        [null, '6-9'],
      ],
    },
  ];
  it.each(rows)('$name', ({ parts, passages, expected }) => {
    const stretches = splitStretches(parts, passages).map(({ passage, parts }) => [
      passage,
      parts.map(({ from, to, names }) => `${from}-${to}${names.join()}`).join(' '),
    ]);
    expect(stretches).toEqual(expected);
  });
});

describe('a link to a result', () => {
  const result: Result = {
    prior: -20,
    score: 50,
    band: 'suspect',
    action: 'degrade',
    digest: 'ab'.repeat(32),
    contributions: [{ family: 'synthesis', raw: 34, capped: 20 }],
    hits: [
      { name: 'synthesis_a', family: 'synthesis', weight: 14 },
      { name: 'synthesis_b', family: 'synthesis', weight: 20 },
    ],
    picked: 'synthesis_b',
  };
  const valid = encode(result);

  it('contains the result', () => expect(decode(valid)).toEqual(result));

  it.each([
    '',
    'x',
    '%',
    'null',
    '[]',
    '{}',
    valid.slice(0, -3),
    valid.slice(4),
    btoa('{"v":1,"prior":1e999,"families":[]}'),
    btoa('{"v":1,"families":{}}'),
    btoa(JSON.stringify({ v: 2 })),
  ])('is rejected if it is invalid (%#)', (text) => expect(decode(text)).toBeNull());
});
