// The option `--origin URL` of `npm start`: checks the URL of one's own API, and the guide that is
// printed for it. Uses Node built-ins only.
import http from 'node:http';
import https from 'node:https';
import { parseArgs } from 'node:util';
import { curl, ORDINARY } from './demo.mjs';
import { Failure } from './proc.mjs';

/** Time in ms after which the API counts as unreachable. */
const TIMEOUT_MS = 10_000;

/**
 * Returns the URL of `--origin` without a final slash, or null if the option is not given. `filter`
 * is the URL at which the filter will listen. Throws a `Failure` that lists all problems.
 */
export async function readOrigin(args, filter) {
  const options = { origin: { type: 'string' } };
  const { values } = parse(args, options);
  if (values.origin === undefined) return null;
  const { url, problems } = check(values.origin.trim(), filter);
  if (url) problems.push(...(await unreachable(url)));
  if (problems.length) {
    const list = problems.map(({ message, remedy }) => `- ${message}\n    ${remedy}`);
    throw new Failure(`--origin ${shown(values.origin)} cannot be used:\n  ${list.join('\n  ')}`);
  }
  return url.href.replace(/\/+$/, '');
}

function parse(args, options) {
  try {
    return parseArgs({ args, options });
  } catch (error) {
    const usage = [
      'npm start                    in front of a demo origin',
      'npm start -- --origin URL    in front of your own API',
    ];
    throw new Failure([error.message.split('. ')[0], ...usage].join('\n  '));
  }
}

/** Returns a URL without its password, which must not be printed. */
const shown = (text) => text.replace(/\/\/[^/]*@/, '//…@');

/**
 * Checks a URL without connecting. Returns its problems, and the parsed URL if a connection can be
 * tried.
 */
export function check(text, filter) {
  const problems = [];
  const add = (message, remedy) => problems.push({ message, remedy });
  if (!URL.canParse(text)) {
    const port = /^https?:\/\/[^/]*:(\d{5,})/.exec(text)?.[1];
    if (port) add(`the port is ${port}`, 'use a port from 1 to 65535');
    else if (text.includes('://')) add('this is not a URL', EXAMPLE);
    else add('the URL has no scheme', `try https://${text || 'api.example.com'}`);
    return { url: null, problems };
  }
  const url = new URL(text);
  const isHttp = ['http:', 'https:'].includes(url.protocol);
  if (!isHttp) {
    const scheme = url.protocol.slice(0, -1);
    if (text.includes('://')) add(`the scheme is ${scheme}`, 'use http or https');
    else add('the URL has no scheme', `try http://${text}`);
  }
  if (url.username || url.password) {
    add('the URL has a user name or password', 'remove it; clients send their own credentials');
  }
  if (url.search || url.hash || /[?#]/.test(text)) {
    add('the URL has a query or a fragment', 'remove it; those of each request are appended');
  }
  if (url.port === '0') add('the port is 0', 'use a port from 1 to 65535');
  const isLoop = isHttp && isLocal(url.hostname) && portOf(url) === portOf(new URL(filter));
  if (isLoop) add('this is the address of the filter itself', 'use another port for your API');
  return { url: isHttp && !isLoop && url.port !== '0' ? url : null, problems };
}

const EXAMPLE = 'use scheme and host, such as https://api.example.com or http://127.0.0.1:9000';

const isLocal = (host) =>
  /^(localhost|.*\.localhost|127(\.\d+){3}|0\.0\.0\.0|\[::1?\])$/.test(host);

const portOf = ({ port, protocol }) => port || (protocol === 'https:' ? '443' : '80');

/** Returns why the server does not answer HTTP requests: a list with one problem, or none. */
async function unreachable(url) {
  try {
    await ask(url);
    return [];
  } catch (error) {
    return [explain(error, url)];
  }
}

/** Sends a GET request. Any status counts as an answer. */
function ask(url) {
  return new Promise((done, fail) => {
    const { get } = url.protocol === 'https:' ? https : http;
    const request = get(url, { agent: false }, (response) => {
      response.destroy();
      done();
    });
    const timeout = Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' });
    const timer = setTimeout(() => request.destroy(timeout), TIMEOUT_MS);
    request.once('error', fail);
    request.once('close', () => clearTimeout(timer));
  });
}

/** Returns the message and the remedy for an error of a connection. */
export function explain(error, url) {
  // If a name has several addresses, the error contains one error for each of them.
  const code = error.code ?? error.errors?.[0]?.code ?? error.message;
  const at = `${url.hostname}:${portOf(url)}`;
  if (code === 'ECONNREFUSED') {
    return problem(`nothing listens at ${at}`, 'start your API first, or correct the port');
  }
  if (['ENOTFOUND', 'EAI_AGAIN'].includes(code)) {
    return problem(`${url.hostname} has no address`, 'correct the host, or check the connection');
  }
  if (code === 'ETIMEDOUT') {
    const remedy = 'check the firewall or the VPN between this machine and your API';
    return problem(`${at} did not answer within ${TIMEOUT_MS / 1000} s`, remedy);
  }
  if (/SSL|EPROTO|WRONG_VERSION/.test(code)) {
    return problem(`${at} does not speak TLS (${code})`, 'use http:// if your API has no TLS');
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const remedy = 'use a host that the certificate names';
    return problem(`the certificate of ${at} is for another host`, remedy);
  }
  if (/CERT|SIGNATURE/.test(code)) {
    const remedy =
      'name its authority before `npm start`, which the filter trusts, too: ' +
      'NODE_EXTRA_CA_CERTS=ca.pem; or use http:// on this machine';
    return problem(`the certificate of ${at} is not trusted (${code})`, remedy);
  }
  const remedy = 'check the scheme and the port: `curl -v` shows what the server answers';
  return problem(`${at} does not answer HTTP requests (${code})`, remedy);
}

const problem = (message, remedy) => ({ message, remedy });

/** Returns what can be tried with one's own API at `origin`. */
export function ownGuide(base, origin) {
  const url = new URL(origin);
  const { headers, body } = ORDINARY;
  const own = { authorization: 'Bearer YOUR-KEY', 'content-type': 'application/json' };
  const path = '/v1/chat/completions';
  const example = curl(base, { path, headers: { ...headers, ...own }, body });
  const notes = [];
  if (/\/v\d[^/]*$/.test(url.pathname)) {
    notes.push(
      `The path ${url.pathname} of --origin is put before the path of each request:`,
      `${base}/v1/messages arrives at ${origin}/v1/messages.`,
      `Leave it out if clients send it.`,
    );
  }
  if (url.protocol === 'http:' && !isLocal(url.hostname)) {
    notes.push(`Requests to ${url.hostname} are not encrypted, and neither are their credentials.`);
  }
  return `
Hedgerow listens at ${base}, in front of ${origin}. Your API gets each request
with its credentials, path and query; its Host is ${url.host}. In development, the
x-hedgerow-* headers of an answer show the decision.
${notes.length ? `\nNote. ${notes.join('\n')}\n` : ''}
1. Send your clients to the filter, with their usual keys. In mode shadow, the default, every
   request is scored, logged and forwarded.

export OPENAI_BASE_URL=${base}/v1
export ANTHROPIC_BASE_URL=${base}

   Or send a request with curl (put in your key and model):

${example}

2. See how a request would be treated in mode enforce: add the header x-hedgerow-mode: enforce.

3. See the console at ${base}/_hedgerow/ (its token is in .wrangler/dev-token).
   \`npm run demo\` is off, because its traffic would reach your API.

4. Read docs/origin.md: the headers that your API gets, and how to verify the score.

Each decision is a line of JSON below, without prompts and credentials. Ctrl-C ends the filter.
`;
}
