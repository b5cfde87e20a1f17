// A curl command as a terminal would read it, without one: nothing is expanded, nothing is run.
import { InputError } from './problem.ts';

export interface CurlCommand {
  method: string;
  url: string;
  headers: [string, string][];
  body: string;
  /** Options that say nothing here, without their values. */
  ignored: string[];
}

const ESCAPES: Record<string, string> = { n: '\n', t: '\t', r: '\r', a: '\x07', b: '\b', e: '\x1b', E: '\x1b', f: '\f', v: '\v', '\\': '\\', "'": "'", '"': '"', '?': '?' };
const ANSI = /\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,8})|([^]))/g;

/** What stands between `$'` and `'`. */
function ansi(text: string): string {
  return text.replace(ANSI, (whole, octal?: string, hex?: string, short?: string, long?: string, other?: string) => {
    if (other !== undefined) return ESCAPES[other] ?? whole;
    const code = octal !== undefined ? parseInt(octal, 8) & 255 : parseInt((hex ?? short ?? long)!, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : '\ufffd';
  });
}

/** Carets of the Windows prompt: one at a line's end joins lines; Chrome puts one before each special character, too. */
function withoutCarets(text: string): string {
  if (!text.includes('^"')) return text.replace(/\^[ \t]*\r?\n/g, ' ');
  return text.replace(/\^(\r?\n(\r?\n)?|[^])/g, (_, next: string, second?: string) => (second ? '\n' : /^\r?\n$/.test(next) ? ' ' : next));
}

const SINGLE = /'([^']*)'/y;
const DOUBLE = /"([^"\\]*(?:\\[^][^"\\]*)*)"/y;
const DOLLAR = /\$'([^'\\]*(?:\\[^][^'\\]*)*)'/y;
const ESCAPED = /\\(\r?\n|[^])/y;
const PLAIN = /[^\s'"\\$|&;<>]+|\$/y;
const SPACE = /[^\S\r\n]+/y;

/** Splits a command into words, up to where another command or a redirection begins. */
export function words(text: string): string[] {
  const all: string[] = [];
  let word: string | null = null;
  let at = 0;
  const next = (pattern: RegExp) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found;
  };
  const append = (part: string) => (word = (word ?? '') + part);
  while (at < text.length) {
    let found: RegExpExecArray | null;
    if (next(SPACE)) {
      if (word !== null) all.push(word);
      word = null;
    } else if ((found = next(ESCAPED))) {
      if (!/\n/.test(found[1]!)) append(found[1]!);
    } else if ((found = next(DOLLAR))) append(ansi(found[1]!));
    else if ((found = next(SINGLE))) append(found[1]!);
    else if ((found = next(DOUBLE))) append(found[1]!.replace(/\\(\r?\n|["\\$`])/g, (_, escaped: string) => (escaped.endsWith('\n') ? '' : escaped)));
    else if ((found = next(PLAIN))) append(found[0]);
    else if (/['"]/.test(text[at]!)) throw new InputError('A quotation mark of the command is not closed.', 'Copy the whole command, to its last quotation mark.');
    else break;
  }
  if (word !== null) all.push(word);
  return all;
}

const SHORT_WITH_VALUE = 'XHdFTubAexoymwKcCDEPQrtYzU';
const LONG: Record<string, string> = {
  '--request': 'X',
  '--header': 'H',
  '--data': 'd',
  '--data-ascii': 'd',
  '--data-binary': 'd',
  '--data-raw': 'raw',
  '--data-urlencode': 'encoded',
  '--json': 'json',
  '--url': 'url',
  '--user-agent': 'A',
  '--referer': 'e',
  '--cookie': 'b',
  '--user': 'u',
  '--oauth2-bearer': 'u',
  '--get': 'G',
  '--head': 'I',
  '--form': 'F',
  '--form-string': 'F',
  '--upload-file': 'T',
  '--config': 'K',
};
/** Options that say nothing about the request, but have a value, which is no URL: all that curl's manual has. */
const LONG_WITH_VALUE = new Set(
  [
    'abstract-unix-socket alt-svc aws-sigv4 cacert capath cert cert-type ciphers connect-timeout connect-to continue-at cookie-jar create-file-mode crlfile curves',
    'delegation dns-interface dns-ipv4-addr dns-ipv6-addr dns-servers doh-url dump-header ech egd-file engine etag-compare etag-save expect100-timeout',
    'ftp-account ftp-alternative-to-user ftp-method ftp-port ftp-ssl-ccc-mode happy-eyeballs-timeout-ms haproxy-clientip hostpubmd5 hostpubsha256 hsts',
    'interface ip-tos ipfs-gateway keepalive-cnt keepalive-time key key-type knownhosts krb libcurl limit-rate local-port login-options',
    'mail-auth mail-from mail-rcpt max-filesize max-redirs max-time netrc-file noproxy output output-dir parallel-max parallel-max-host pass pinnedpubkey',
    'preproxy proto proto-default proto-redir proxy proxy1.0 proxy-cacert proxy-capath proxy-cert proxy-cert-type proxy-ciphers proxy-crlfile proxy-header',
    'proxy-key proxy-key-type proxy-pass proxy-pinnedpubkey proxy-service-name proxy-tls13-ciphers proxy-tlsauthtype proxy-tlspassword proxy-tlsuser proxy-user',
    'pubkey quote random-file range rate request-target resolve retry retry-delay retry-max-time sasl-authzid service-name sigalgs',
    'socks4 socks4a socks5 socks5-gssapi-service socks5-hostname speed-limit speed-time stderr telnet-option tftp-blksize time-cond tls-max tls13-ciphers',
    'tlsauthtype tlspassword tlsuser trace trace-ascii trace-config unix-socket upload-flags url-query variable vlan-priority write-out',
  ].flatMap((names) => names.split(' ').map((name) => `--${name}`)),
);
const REFUSED: Record<string, string> = {
  F: 'It sends a form. Paste the request as raw HTTP in place of it.',
  T: 'It sends a file, which this page cannot read. Paste its content with --data-raw.',
  K: 'It reads its options from a file, which this page cannot read. Write them out.',
};

/** The options of a command in order, each with its value where it has one; what is no option is a `url`, what is not read `ignored`. */
function* options(all: string[]): Generator<[string, string]> {
  const rest = all.slice(1);
  const value = (name: string) => {
    const found = rest.shift();
    if (found === undefined) throw new InputError(`The option ${name} has no value.`, 'Copy the whole command.');
    return found;
  };
  while (rest.length) {
    const word = rest.shift()!;
    // Another request begins.
    if (word === '--next' || word === '-:') return;
    if (word.startsWith('--')) {
      const name = LONG[word];
      if (name === 'G' || name === 'I') yield [name, ''];
      else if (name) yield [name, value(word)];
      else {
        if (LONG_WITH_VALUE.has(word)) value(word);
        yield ['ignored', word];
      }
    } else if (word.startsWith('-') && word.length > 1) {
      // -sSXPOST: flags, and at last one that has a value.
      const at = [...word].findIndex((letter, at) => at > 0 && SHORT_WITH_VALUE.includes(letter));
      for (const flag of word.slice(1, at < 0 ? undefined : at)) yield flag === 'G' || flag === 'I' ? [flag, ''] : ['ignored', `-${flag}`];
      if (at > 0) yield [word[at]!, word.slice(at + 1) || value(`-${word[at]}`)];
    } else if (word) yield ['url', word];
  }
}

function data(name: string, value: string): string {
  if (name !== 'raw' && value.startsWith('@')) {
    const source = value === '@-' ? 'its input' : 'a file';
    throw new InputError(`The command reads its body from ${source}, which this page cannot do.`, `Put the text itself in place of ${value.slice(0, 60)}.`);
  }
  if (name !== 'encoded') return value;
  const [, key, text] = /^([^=]*=)?([^]*)$/.exec(value)!;
  return `${key === '=' ? '' : (key ?? '')}${encodeURIComponent(text!)}`;
}

export function readCurl(text: string): CurlCommand {
  const all = words(withoutCarets(text.trim().replace(/^\$\s+/, '')));
  const command: CurlCommand = { method: '', url: '', headers: [], body: '', ignored: [] };
  const parts: string[] = [];
  const urls: string[] = [];
  const ignored = new Set<string>();
  let query = false;
  const header = (name: string, value: string) => command.headers.push([name.toLowerCase(), value]);
  const has = (name: string) => command.headers.some(([known]) => known === name);
  const usual = (name: string, value: string) => has(name) || header(name, value);
  let json = false;
  for (const [name, value] of options(all)) {
    const refusal = REFUSED[name];
    if (refusal) throw new InputError(`The option ${name.length > 1 ? name : `-${name}`} is not read here.`, refusal);
    if (name === 'url') urls.push(value);
    else if (name === 'X') command.method = value;
    else if (name === 'G') query = true;
    else if (name === 'I') command.method ||= 'HEAD';
    else if (name === 'A') header('user-agent', value);
    else if (name === 'e') header('referer', value);
    else if (name === 'b') header('cookie', value);
    else if (name === 'u') header('authorization', value);
    else if (name === 'H') {
      const found = /^([^:;]+)[:;]\s*([^]*)$/.exec(value);
      if (found) header(found[1]!.trim(), found[2]!.trim());
    } else if (name === 'd' || name === 'raw' || name === 'encoded' || name === 'json') {
      json ||= name === 'json';
      parts.push(data(name, value));
    } else ignored.add(name === 'ignored' ? value : `-${name}`);
  }
  // A word that follows an option that is not known here may be its value.
  command.url = urls.find((url) => /^https?:\/\//i.test(url)) ?? urls[0] ?? '';
  command.ignored = [...ignored];
  if (!command.url) throw new InputError('The command has no URL.', 'Copy the whole command, with the address of the API.');
  command.method ||= parts.length && !query ? 'POST' : 'GET';
  command.body = query ? '' : parts.join(json ? '' : '&');
  // What curl sends by itself.
  usual('user-agent', 'curl/8.16.0');
  usual('accept', json ? 'application/json' : '*/*');
  if (parts.length && !query) usual('content-type', json ? 'application/json' : 'application/x-www-form-urlencoded');
  return command;
}
