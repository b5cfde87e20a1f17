// The Python SDKs of OpenAI, Anthropic and Google, with requests through the filter. The SDKs raise
// a refusal at once, as a typed error, and they stream answers. The first run installs the packages
// into .tools/, which takes up to half a minute.
import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { ROOT, useFilter, useOrigin } from './support.ts';

const PACKAGES = ['openai==3.57.0', 'anthropic==2.14.0', 'google-genai==3.6.1'];
const ENVIRONMENT = path.join(ROOT, `.tools/python-${PACKAGES.join('-').replaceAll('==', '-')}`);
const PYTHON = path.join(ENVIRONMENT, 'bin/python');
const INSTALLED = path.join(ENVIRONMENT, 'installed');

/** Installs the packages, unless they are already installed. Returns whether the tests can run. */
function isInstalled(): boolean {
  if (existsSync(INSTALLED)) return true;
  const options = { stdio: 'pipe', timeout: 180_000 } as const;
  try {
    execFileSync('python3', ['-m', 'venv', ENVIRONMENT], options);
    execFileSync(PYTHON, ['-m', 'pip', 'install', '--quiet', ...PACKAGES], options);
    execFileSync('touch', [INSTALLED]);
    return true;
  } catch (error) {
    console.log(`skipped: the Python SDKs cannot be installed: ${(error as Error).message}`);
    return false;
  }
}

/**
 * Python script that calls an API with the default number of retries, and prints the error as JSON.
 */
const SCRIPT = `
import json, sys, time, openai, anthropic
url, name, action = sys.argv[1:]
headers = {"x-hedgerow-mode": "enforce", "x-hedgerow-action": action}
ask = {"model": "m", "messages": [{"role": "user", "content": "When do blackbirds nest?"}]}
if name == "openai":
    client = openai.OpenAI(api_key="sk-test-py", base_url=url + "/v1", default_headers=headers)
    call = lambda: client.chat.completions.create(**ask)
else:
    client = anthropic.Anthropic(api_key="sk-test-py", base_url=url, default_headers=headers)
    call = lambda: client.messages.create(max_tokens=8, **ask)
try:
    call()
except Exception as error:
    names = ["retry-after", "x-should-retry"]
    values = [error.response.headers.get(name) for name in names]
    print(json.dumps([type(error).__name__, error.request_id is not None, *values]))
`;

/**
 * Python script that calls Google's SDK with up to three attempts after 429, because the SDK does
 * not repeat requests by default. Prints the error, or the number of chunks and the text of a
 * streamed answer, as JSON.
 */
const GOOGLE_SCRIPT = `
import json, sys
from google import genai
from google.genai import errors, types
url, action = sys.argv[1:]
headers = {"x-hedgerow-mode": "enforce", "x-hedgerow-action": action}
retry = types.HttpRetryOptions(attempts=3, initial_delay=0.1, max_delay=0.2, http_status_codes=[429])
options = types.HttpOptions(base_url=url, headers=headers, retry_options=retry)
client = genai.Client(api_key="key-test-py", http_options=options)
ask = {"model": "demo-large", "contents": "Which hedge plants keep their leaves in winter?"}
try:
    chunks = [chunk.text or "" for chunk in client.models.generate_content_stream(**ask)]
    answer = client.models.generate_content(**ask)
    print(json.dumps([len(chunks), "".join(chunks), answer.text]))
except errors.APIError as error:
    print(json.dumps([type(error).__name__, error.code, error.status, error.message]))
`;

describe.skipIf(!isInstalled())('the Python SDK', () => {
  const origin = useOrigin();
  const filter = useFilter({ origin });

  it.each(['openai', 'anthropic'])('of %s raises the error of a refusal at once', async (name) => {
    for (const [action, expected] of [
      ['throttle', ['RateLimitError', true, '30', 'false']],
      ['block', ['PermissionDeniedError', true, null, 'false']],
    ] as const) {
      const before = filter.decisions().length;
      const args = ['-c', SCRIPT, filter.url, name, action];
      const { stdout } = await promisify(execFile)(PYTHON, args, { timeout: 25_000 });
      expect(JSON.parse(stdout)).toEqual(expected);
      // Each repeated request would add a decision.
      expect(filter.decisions().length).toBe(before + 1);
    }
    expect(origin.requests).toEqual([]);
  });

  const google = async (action: string) => {
    const args = ['-c', GOOGLE_SCRIPT, filter.url, action];
    return JSON.parse((await promisify(execFile)(PYTHON, args, { timeout: 25_000 })).stdout);
  };

  it.each([
    // Google's SDK ignores `x-should-retry`: it repeats a request after 429 as often as configured.
    ['throttle', 429, 'RESOURCE_EXHAUSTED', 3],
    ['block', 403, 'PERMISSION_DENIED', 1],
  ] as const)('of Google raises the error of %s', async (action, code, status, decisions) => {
    const before = filter.decisions().length;
    const [name, ...error] = await google(action);
    expect([name, ...error.slice(0, 2)]).toEqual(['ClientError', code, status]);
    const lines = filter.decisions().slice(before);
    expect(lines).toHaveLength(decisions);
    expect(error[2]).toContain(lines.at(-1)!.request_id);
    expect(origin.requests).toEqual([]);
  });

  it('of Google streams an answer', async () => {
    const before = filter.decisions().length;
    const [chunks, streamed, whole] = await google('tag');
    expect(chunks).toBeGreaterThan(1);
    expect(streamed).toMatch(/\w/);
    expect(whole).toMatch(/\w/);
    expect(origin.requests.map(({ path }) => path.split('?')[0])).toEqual([
      '/v1/models/demo-large:streamGenerateContent',
      '/v1/models/demo-large:generateContent',
    ]);
    expect(
      filter
        .decisions()
        .slice(before)
        .map(({ dialect }) => dialect),
    ).toEqual(['gemini', 'gemini']);
  });
});
