// Parses a curl command as a shell and curl would. Does not expand variables, and does not run
// anything.
import { InputError } from './input-error.ts';

export interface CurlCommand {
  method: string;
  url: string;
  headers: [string, string][];
  body: string;
  /** Names of options that do not affect the parsed request. */
  ignored: string[];
}

const ESCAPES: Record<string, string> = {
  n: '\n',
  t: '\t',
  r: '\r',
  a: '\x07',
  b: '\b',
  e: '\x1b',
  E: '\x1b',
  f: '\f',
  v: '\v',
  '\\': '\\',
  "'": "'",
  '"': '"',
  '?': '?',
};
const ANSI =
  /\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,8})|([^]))/g;

/** Decodes the content of a `$'…'` string. */
function decodeAnsi(text: string): string {
  return text.replace(
    ANSI,
    (whole, octal?: string, hex?: string, short?: string, long?: string, other?: string) => {
      if (other !== undefined) return ESCAPES[other] ?? whole;
      const code =
        octal !== undefined ? parseInt(octal, 8) & 255 : parseInt((hex ?? short ?? long)!, 16);
      return code <= 0x10ffff ? String.fromCodePoint(code) : '\ufffd';
    },
  );
}

/**
 * Removes the carets of the Windows prompt. A caret at the end of a line joins two lines. Chrome
 * also puts a caret before each special character.
 */
function withoutCarets(text: string): string {
  if (!text.includes('^"')) return text.replace(/\^[ \t]*\r?\n/g, ' ');
  return text.replace(/\^(\r?\n(\r?\n)?|[^])/g, (_, next: string, second?: string) => {
    if (second) return '\n';
    return /^\r?\n$/.test(next) ? ' ' : next;
  });
}

const SINGLE = /'([^']*)'/y;
const DOUBLE = /"([^"\\]*(?:\\[^][^"\\]*)*)"/y;
const DOLLAR = /\$'([^'\\]*(?:\\[^][^'\\]*)*)'/y;
const ESCAPED = /\\(\r?\n|[^])/y;
const PLAIN = /[^\s'"\\$|&;<>]+|\$/y;
const SPACE = /[^\S\r\n]+/y;

/** Decodes the content of a double-quoted string. */
const unescapeDouble = (text: string) =>
  text.replace(/\\(\r?\n|["\\$`])/g, (_, escaped: string) =>
    escaped.endsWith('\n') ? '' : escaped,
  );

/** Splits a command into words. Stops at another command or a redirection. */
export function splitWords(text: string): string[] {
  const words: string[] = [];
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
      if (word !== null) words.push(word);
      word = null;
    } else if ((found = next(ESCAPED))) {
      if (!/\n/.test(found[1]!)) append(found[1]!);
    } else if ((found = next(DOLLAR))) append(decodeAnsi(found[1]!));
    else if ((found = next(SINGLE))) append(found[1]!);
    else if ((found = next(DOUBLE))) append(unescapeDouble(found[1]!));
    else if ((found = next(PLAIN))) append(found[0]);
    else if (/['"]/.test(text[at]!)) {
      throw new InputError(
        'A quotation mark of the command is not closed.',
        'Copy the whole command, including its last quotation mark.',
      );
    } else break;
  }
  if (word !== null) words.push(word);
  return words;
}

/** Letters of the short options that have a value. */
const SHORT_WITH_VALUE = 'XHdFTubAexoymwKcCDEPQrtYzU';
/** Long options that affect the request, and the keys under which they are handled. */
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

/**
 * Ignored options that have a value, from curl's manual. They are listed so that their values are
 * not mistaken for the URL.
 */
const LONG_WITH_VALUE = new Set(
  `
    abstract-unix-socket alt-svc aws-sigv4 cacert capath cert cert-type ciphers connect-timeout
    connect-to continue-at cookie-jar create-file-mode crlfile curves delegation dns-interface
    dns-ipv4-addr dns-ipv6-addr dns-servers doh-url dump-header ech egd-file engine etag-compare
    etag-save expect100-timeout ftp-account ftp-alternative-to-user ftp-method ftp-port
    ftp-ssl-ccc-mode happy-eyeballs-timeout-ms haproxy-clientip hostpubmd5 hostpubsha256 hsts
    interface ip-tos ipfs-gateway keepalive-cnt keepalive-time key key-type knownhosts krb libcurl
    limit-rate local-port login-options mail-auth mail-from mail-rcpt max-filesize max-redirs
    max-time netrc-file noproxy output output-dir parallel-max parallel-max-host pass pinnedpubkey
    preproxy proto proto-default proto-redir proxy proxy1.0 proxy-cacert proxy-capath proxy-cert
    proxy-cert-type proxy-ciphers proxy-crlfile proxy-header proxy-key proxy-key-type proxy-pass
    proxy-pinnedpubkey proxy-service-name proxy-tls13-ciphers proxy-tlsauthtype proxy-tlspassword
    proxy-tlsuser proxy-user pubkey quote random-file range rate request-target resolve retry
    retry-delay retry-max-time sasl-authzid service-name sigalgs socks4 socks4a socks5
    socks5-gssapi-service socks5-hostname speed-limit speed-time stderr telnet-option tftp-blksize
    time-cond tls-max tls13-ciphers tlsauthtype tlspassword tlsuser trace trace-ascii trace-config
    unix-socket upload-flags url-query variable vlan-priority write-out
  `
    .trim()
    .split(/\s+/)
    .map((name) => `--${name}`),
);

/** Options that cannot be supported, with their remedies. */
const UNSUPPORTED: Record<string, string> = {
  F: 'It sends a form. Paste the request as raw HTTP instead.',
  T: 'It sends a file, which this page cannot read. Put the content into --data-raw.',
  K: 'It reads options from a file, which this page cannot read. Put the options into the command.',
};

/**
 * Yields the options of a command in order, each as a key and a value. The key `url` is used for
 * arguments, and `ignored` for options that do not affect the request.
 */
function* parseOptions(words: string[]): Generator<[string, string]> {
  const rest = words.slice(1);
  const value = (name: string) => {
    const found = rest.shift();
    if (found === undefined)
      throw new InputError(`The option ${name} has no value.`, 'Copy the whole command.');
    return found;
  };
  while (rest.length) {
    const word = rest.shift()!;
    // Stops, because the options of the next request start here.
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
      // A word such as -sSXPOST contains flags, followed by an option with a value.
      const letters = [...word];
      const at = letters.findIndex((letter, at) => at > 0 && SHORT_WITH_VALUE.includes(letter));
      for (const flag of word.slice(1, at < 0 ? undefined : at)) {
        yield flag === 'G' || flag === 'I' ? [flag, ''] : ['ignored', `-${flag}`];
      }
      if (at > 0) yield [word[at]!, word.slice(at + 1) || value(`-${word[at]}`)];
    } else if (word) yield ['url', word];
  }
}

/** Returns the part of the body that a data option adds. */
function bodyPart(name: string, value: string): string {
  if (name !== 'raw' && value.startsWith('@')) {
    const source = value === '@-' ? 'standard input' : 'a file';
    throw new InputError(
      `The command reads its body from ${source}, which this page cannot read.`,
      `Replace ${value.slice(0, 60)} by the text.`,
    );
  }
  if (name !== 'encoded') return value;
  const [, key, text] = /^([^=]*=)?([^]*)$/.exec(value)!;
  return `${key === '=' ? '' : (key ?? '')}${encodeURIComponent(text!)}`;
}

/** Parses a curl command. Throws an `InputError`. */
export function parseCurl(text: string): CurlCommand {
  const words = splitWords(withoutCarets(text.trim().replace(/^\$\s+/, '')));
  const command: CurlCommand = { method: '', url: '', headers: [], body: '', ignored: [] };
  const parts: string[] = [];
  const urls: string[] = [];
  const ignored = new Set<string>();
  let isQuery = false;
  let isJson = false;
  const addHeader = (name: string, value: string) =>
    command.headers.push([name.toLowerCase(), value]);
  const addDefault = (name: string, value: string) =>
    command.headers.some(([known]) => known === name) || addHeader(name, value);
  for (const [name, value] of parseOptions(words)) {
    const remedy = UNSUPPORTED[name];
    if (remedy) {
      const option = name.length > 1 ? name : `-${name}`;
      throw new InputError(`The option ${option} is not supported here.`, remedy);
    }
    if (name === 'url') urls.push(value);
    else if (name === 'X') command.method = value;
    else if (name === 'G') isQuery = true;
    else if (name === 'I') command.method ||= 'HEAD';
    else if (name === 'A') addHeader('user-agent', value);
    else if (name === 'e') addHeader('referer', value);
    else if (name === 'b') addHeader('cookie', value);
    else if (name === 'u') addHeader('authorization', value);
    else if (name === 'H') {
      const header = /^([^:;]+)[:;]\s*([^]*)$/.exec(value);
      if (header) addHeader(header[1]!.trim(), header[2]!.trim());
    } else if (name === 'd' || name === 'raw' || name === 'encoded' || name === 'json') {
      isJson ||= name === 'json';
      parts.push(bodyPart(name, value));
    } else ignored.add(name === 'ignored' ? value : `-${name}`);
  }
  // Prefers a full URL, because an argument after an unknown option may be the value of that
  // option.
  command.url = urls.find((url) => /^https?:\/\//i.test(url)) ?? urls[0] ?? '';
  command.ignored = [...ignored];
  if (!command.url) {
    throw new InputError(
      'The command has no URL.',
      'Copy the whole command, with the address of the API.',
    );
  }
  const hasBody = parts.length > 0 && !isQuery;
  command.method ||= hasBody ? 'POST' : 'GET';
  command.body = isQuery ? '' : parts.join(isJson ? '' : '&');
  addDefault('user-agent', 'curl/8.16.0');
  addDefault('accept', isJson ? 'application/json' : '*/*');
  if (hasBody) {
    addDefault('content-type', isJson ? 'application/json' : 'application/x-www-form-urlencoded');
  }
  return command;
}
