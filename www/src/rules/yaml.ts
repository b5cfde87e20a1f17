// A YAML parser that uses the grammar of the editor, which is loaded anyway. A library would double
// the size of this view. Scalars are kept as strings, because they are only displayed.
import { parser } from '@lezer/yaml';

type Node = ReturnType<typeof parser.parse>['topNode'];
export type Yaml = string | null | Yaml[] | { [key: string]: Yaml };

/** Parses the documents of a file. Throws if the file is not YAML. */
export function parseDocuments(text: string): Yaml[] {
  const tree = parser.parse(text);
  tree.iterate({
    enter({ type, from }) {
      if (!type.isError) return;
      const line = text.slice(0, from).split('\n').length;
      throw new Error(`line ${line} is not YAML`);
    },
  });
  const documents = tree.topNode.getChildren('Document');
  const values = documents.map((document) => toValue(content(document), text));
  return values.filter((value) => value !== null);
}

/** Names of nodes that are not the content of their parent. */
const SYNTAX = new Set([
  'Key',
  'Comment',
  'Anchor',
  'Tag',
  'DirectiveEnd',
  'DocumentEnd',
  'DirectiveName',
  'Directive',
  ...[':', '-', '?', ',', '[', ']', '{', '}'],
]);

/**
 * Returns the last child that is content, such as the value of a pair or the root of a document.
 */
function content(node: Node): Node | null {
  for (let child = node.lastChild; child; child = child.prevSibling) {
    if (!SYNTAX.has(child.name)) return child;
  }
  return null;
}

function toValue(node: Node | null, text: string): Yaml {
  if (!node) return null;
  const source = text.slice(node.from, node.to);
  switch (node.name) {
    case 'BlockMapping':
    case 'FlowMapping': {
      const pairs = node.getChildren('Pair');
      return Object.fromEntries(
        pairs.map((pair) => [keyOf(pair, text), toValue(content(pair), text)]),
      );
    }
    case 'BlockSequence':
    case 'FlowSequence':
      return node.getChildren('Item').map((item) => toValue(content(item), text));
    case 'QuotedLiteral': {
      const quoted = source.slice(1, -1);
      if (source.startsWith("'")) return foldLines(quoted).replaceAll("''", "'");
      return unescape(foldLines(quoted.replace(/\\\n[ \t]*/g, '')));
    }
    case 'BlockLiteral':
      return parseBlock(source);
    case 'Anchored':
    case 'Tagged':
      return toValue(content(node), text);
    default:
      return source === '~' || source === 'null' ? null : foldLines(source);
  }
}

function keyOf(pair: Node, text: string): string {
  const key = pair.getChild('Key');
  const name = key && toValue(content(key), text);
  return typeof name === 'string' ? name : JSON.stringify(name);
}

/** Folds lines: a single line break becomes a space, and n line breaks become n − 1 line breaks. */
function foldLines(text: string): string {
  return text.replace(
    /[ \t]*\n\s*/g,
    (breaks) => '\n'.repeat(breaks.split('\n').length - 2) || ' ',
  );
}

function parseBlock(source: string): string {
  const [header = '', ...lines] = source.split('\n');
  const indents = lines.filter((line) => line.trim()).map((line) => /^ */.exec(line)![0].length);
  const indent = Math.min(...indents);
  const text = lines.map((line) => line.slice(indent)).join('\n');
  return (header.startsWith('>') ? foldLines(text) : text).trimEnd();
}

const ESCAPES: Record<string, string> = {
  0: '\0',
  a: '\x07',
  b: '\b',
  t: '\t',
  n: '\n',
  v: '\v',
  f: '\f',
  r: '\r',
  e: '\x1b',
  N: '\x85',
  _: '\xa0',
  L: '\u2028',
  P: '\u2029',
};

function unescape(text: string): string {
  const escape = /\\(?:x([\da-f]{2})|u([\da-f]{4})|U([\da-f]{8})|([^]))/gi;
  return text.replace(escape, (_, x, u, long, letter) => {
    const code = x ?? u ?? long;
    if (code === undefined) return ESCAPES[letter] ?? letter;
    return String.fromCodePoint(Math.min(parseInt(code, 16), 0x10ffff));
  });
}
