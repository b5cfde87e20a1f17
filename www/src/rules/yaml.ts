// YAML as data, by the grammar that the editor has anyway: a library of its own would be as large as the rest of this
// view. Scalars stay texts, which is all that a page to read needs.
import { parser } from '@lezer/yaml';

type Node = ReturnType<typeof parser.parse>['topNode'];
export type Yaml = string | null | Yaml[] | { [key: string]: Yaml };

/** The documents of a file; throws where it is no YAML. */
export function documents(text: string): Yaml[] {
  const tree = parser.parse(text);
  tree.iterate({
    enter({ type, from }) {
      if (type.isError) throw new Error(`line ${text.slice(0, from).split('\n').length} is no YAML`);
    },
  });
  const found = tree.topNode.getChildren('Document').map((document) => value(content(document), text));
  return found.filter((document) => document !== null);
}

const ASIDE = new Set(['Key', 'Comment', 'Anchor', 'Tag', 'DirectiveEnd', 'DocumentEnd', 'DirectiveName', 'Directive', ':', '-', '?', ',', '[', ']', '{', '}']);

/** What a node is about, without its key and its signs. */
function content(node: Node): Node | null {
  for (let child = node.lastChild; child; child = child.prevSibling) if (!ASIDE.has(child.name)) return child;
  return null;
}

function value(node: Node | null, text: string): Yaml {
  if (!node) return null;
  const own = text.slice(node.from, node.to);
  switch (node.name) {
    case 'BlockMapping':
    case 'FlowMapping':
      return Object.fromEntries(node.getChildren('Pair').map((pair) => [key(pair, text), value(content(pair), text)]));
    case 'BlockSequence':
    case 'FlowSequence':
      return node.getChildren('Item').map((item) => value(content(item), text));
    case 'QuotedLiteral':
      return own.startsWith("'") ? folded(own.slice(1, -1)).replaceAll("''", "'") : unescaped(folded(own.slice(1, -1).replace(/\\\n[ \t]*/g, '')));
    case 'BlockLiteral':
      return block(own);
    case 'Anchored':
    case 'Tagged':
      return value(content(node), text);
    default:
      return own === '~' || own === 'null' ? null : folded(own);
  }
}

function key(pair: Node, text: string): string {
  const own = pair.getChild('Key');
  const name = own && value(content(own), text);
  return typeof name === 'string' ? name : JSON.stringify(name);
}

/** A line break is a space, and each one after it is one. */
function folded(text: string): string {
  return text.replace(/[ \t]*\n\s*/g, (breaks) => '\n'.repeat(breaks.split('\n').length - 2) || ' ');
}

function block(own: string): string {
  const [header = '', ...lines] = own.split('\n');
  const indent = Math.min(...lines.filter((line) => line.trim()).map((line) => /^ */.exec(line)![0].length));
  const text = lines.map((line) => line.slice(indent)).join('\n');
  return (header.startsWith('>') ? folded(text) : text).trimEnd();
}

const ESCAPES: Record<string, string> = { 0: '\0', a: '\x07', b: '\b', t: '\t', n: '\n', v: '\v', f: '\f', r: '\r', e: '\x1b', N: '\x85', _: '\xa0', L: '\u2028', P: '\u2029' };

function unescaped(text: string): string {
  return text.replace(/\\(?:x([\da-f]{2})|u([\da-f]{4})|U([\da-f]{8})|([^]))/gi, (_, x, u, long, one) => {
    const code = x ?? u ?? long;
    return code === undefined ? (ESCAPES[one] ?? one) : String.fromCodePoint(Math.min(parseInt(code, 16), 0x10ffff));
  });
}
