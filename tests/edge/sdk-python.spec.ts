// The Python SDKs of OpenAI and Anthropic through the filter: a refusal is raised at once, as its
// typed error. Their packages are installed into .tools/ on the first run, within seconds.
import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { ROOT, useFilter, useOrigin } from './support.ts';

const PACKAGES = ['openai==3.57.0', 'anthropic==2.14.0'];
const ENVIRONMENT = path.join(ROOT, `.tools/python-${PACKAGES.join('-').replaceAll('==', '-')}`);
const PYTHON = path.join(ENVIRONMENT, 'bin/python');
const INSTALLED = path.join(ENVIRONMENT, 'installed');

/** Installs the packages, unless they are. Returns whether the tests can run. */
function isInstalled(): boolean {
  if (existsSync(INSTALLED)) return true;
  const options = { stdio: 'pipe', timeout: 90_000 } as const;
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

/** Calls an API with the default number of retries, and prints the error as JSON. */
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
      // A repeated request would be another decision.
      expect(filter.decisions().length).toBe(before + 1);
    }
    expect(origin.requests).toEqual([]);
  });
});
