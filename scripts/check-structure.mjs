// npm run check: finds circular imports between the modules of a crate, and type names that a crate
// defines twice. Ignores tests.
//   node scripts/check-structure.mjs [--tree]
//   --tree   prints the tree of src/, with the first doc line of each Rust file
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { withoutTests, withoutTokens } from './check-prose.mjs';
import { Failure, fromRoot, main, ROOT } from './lib/proc.mjs';

const CRATES = ['src/core', 'src/sigma', 'src/cli', 'src/worker', 'src/wasm'];

const key = (segments) => segments.join('::');

/** Returns the modules of a crate by path (`a::b`; '' for the root): `{ path, file, code }`. */
export function readModules(root, folder) {
  const names = readdirSync(path.join(root, folder), { recursive: true }).map(String).sort();
  const rootFile = ['lib.rs', 'main.rs'].find((name) => names.includes(name));
  const modules = new Map();
  const tests = [];
  for (const name of names.filter((file) => file.endsWith('.rs') && file !== 'build.rs')) {
    const segments = name === rootFile ? [] : name.replace(/(\/mod)?\.rs$/, '').split('/');
    const text = readFileSync(path.join(root, folder, name), 'utf8');
    for (const [, child] of withoutTokens(text, 'rs').matchAll(TEST_MODULE)) {
      tests.push(`${key([...segments, child])}::`);
    }
    const code = withoutTokens(withoutTests(text), 'rs').replace(VISIBILITY, blankVisibility);
    modules.set(key(segments), { path: segments, file: `${folder}/${name}`, code });
  }
  for (const module of modules.keys()) {
    if (tests.some((test) => `${module}::`.startsWith(test))) modules.delete(module);
  }
  return modules;
}

const TEST_MODULE = /#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;/g;
/**
 * Visibility, which is removed from code: the path in `pub(in crate::a)` is not an import of `a`.
 */
const VISIBILITY = /\bpub\s*\([^)]*\)/g;
const blankVisibility = (text) => 'pub'.padEnd(text.length);

/**
 * Syntax that `scan` reads: modules, `use` statements, types and paths; also braces, to track
 * nesting.
 */
const SYNTAX = new RegExp([
  String.raw`\bmod\s+(?<module>\w+)\s*\{`,
  String.raw`\buse\s+(?<use>(?:::)?[\w{*][^;]*);`,
  String.raw`\b(?:struct|enum|trait|type|union)\s+(?<type>[A-Z]\w*)`,
  String.raw`(?<inline>\b\w+(?:\s*::\s*\w+)+)`,
  String.raw`(?<brace>[{}])`,
].join('|'), 'g');

/** Returns the imports, inline paths and type definitions of a module, each with its line. */
export function scan({ path: segments, code }) {
  const found = { uses: [], inlines: [], types: [] };
  const open = [];
  let line = 1;
  let counted = 0;
  for (const { index, groups } of code.matchAll(SYNTAX)) {
    line += code.slice(counted, index).split('\n').length - 1;
    counted = index;
    const scope = [...segments, ...open.filter((name) => name)];
    if (groups.module) open.push(groups.module);
    if (groups.brace === '{') open.push(null);
    if (groups.brace === '}') open.pop();
    for (const use of flatten(groups.use ?? '')) found.uses.push({ ...use, scope, line });
    if (groups.inline) found.inlines.push({ names: split(groups.inline), scope, line });
    // In `open`, null is an open brace of something other than a module, such as a function.
    if (groups.type && !open.includes(null)) found.types.push({ name: groups.type, line });
  }
  return found;
}

const split = (text) => text.split('::').map((name) => name.trim());

/**
 * Flattens a `use` tree to a list of `{ names, alias }`. `alias` is the name in the importing
 * scope.
 */
export function flatten(tree, prefix = []) {
  const [, head, group] = /^([^{]*)(?:\{([\s\S]*)\})?\s*$/.exec(tree.trim()) ?? [];
  if (!head && group === undefined) return [];
  if (group !== undefined) {
    const outer = [...prefix, ...split(head).slice(0, -1)];
    return parts(group).flatMap((part) => flatten(part, outer));
  }
  const [names, alias] = head.trim().split(/\s+as\s+/);
  const all = [...prefix, ...split(names)];
  if (prefix.length && all.at(-1) === 'self') all.pop();
  return [{ names: all, alias: alias ?? all.at(-1) }];
}

/** Splits the content of a `use` group at commas outside of nested groups. */
function parts(group) {
  let depth = 0;
  const marked = group.replace(/[{},]/g, (char) => {
    depth += { '{': 1, '}': -1, ',': 0 }[char];
    return char === ',' && depth === 0 ? '\0' : char;
  });
  return marked.split('\0').filter((part) => part.trim());
}

/**
 * Returns the edges between modules: `{ from, to, file, line, name }`, one for each pair. If a name
 * leads to a re-export in the root, the edge points to the module that defines the name.
 */
export function edges(modules) {
  const scans = [...modules].map(([from, module]) => ({ from, module, ...scan(module) }));
  const imported = new Map();
  for (const { from, uses } of scans) {
    const targets = uses.map((use) => [use.alias, absolute(use, modules)]);
    imported.set(from, new Map(targets.filter(([, target]) => target)));
  }
  const found = new Map();
  for (const { from, module: { file }, uses, inlines } of scans) {
    for (const { names, scope, line } of [...uses, ...inlines]) {
      let target = absolute({ names, scope }, modules, imported.get(from));
      if (!target) continue;
      if (!owner(target, modules)) target = expand(target, imported.get('')) ?? target;
      const to = owner(target, modules);
      const edge = { from, to, file, line, name: key(names) };
      if (to !== from && !found.has(`${from} ${to}`)) found.set(`${from} ${to}`, edge);
    }
  }
  return [...found.values()];
}

/**
 * Resolves a path to a path from the root of the crate. Returns undefined for a path of another
 * crate.
 */
function absolute({ names, scope }, modules, imports) {
  const [first, ...rest] = names;
  if (first === 'crate') return rest;
  if (first === 'self') return absolute({ names: rest, scope }, modules) ?? [...scope, ...rest];
  if (first === 'super') {
    return absolute({ names: ['self', ...rest], scope: scope.slice(0, -1) }, modules);
  }
  if (modules.has(key([...scope, first]))) return [...scope, ...names];
  return expand(names, imports);
}

const expand = ([first, ...rest], imports) => (
  imports?.has(first) ? [...imports.get(first), ...rest] : undefined);

/** Returns the module that defines a path: the longest module path that is a prefix of the path. */
function owner(target, modules) {
  const lengths = target.map((_, index) => target.length - index);
  const length = lengths.find((end) => modules.has(key(target.slice(0, end)))) ?? 0;
  return key(target.slice(0, length));
}

/**
 * Returns the circles in a list of edges, by Tarjan's algorithm: `{ members, edges }`. A circle is
 * a set of strongly connected modules with the edges between these modules.
 */
export function circles(list) {
  const next = new Map();
  for (const { from, to } of list) next.set(from, [...(next.get(from) ?? []), to]);
  const [index, low, stack, found] = [new Map(), new Map(), [], []];
  const visit = (module) => {
    index.set(module, index.size);
    low.set(module, index.get(module));
    stack.push(module);
    for (const to of next.get(module) ?? []) {
      if (!index.has(to)) visit(to);
      if (stack.includes(to)) low.set(module, Math.min(low.get(module), low.get(to)));
    }
    if (low.get(module) !== index.get(module)) return;
    const members = stack.splice(stack.indexOf(module)).sort();
    if (members.length > 1) found.push(members);
  };
  for (const module of next.keys()) if (!index.has(module)) visit(module);
  return found.map((members) => {
    const isInside = ({ from, to }) => members.includes(from) && members.includes(to);
    return { members, edges: list.filter(isInside) };
  });
}

/** Returns the names of types that are defined more than once: `{ name, places }`. */
export function duplicates(modules) {
  const places = new Map();
  for (const module of modules.values()) {
    for (const { name, line } of scan(module).types) {
      places.set(name, [...(places.get(name) ?? []), `${module.file}:${line}`]);
    }
  }
  const all = [...places].map(([name, list]) => ({ name, places: list }));
  return all.filter(({ places: { length } }) => length > 1);
}

/** Returns the problems of all crates below `root`, as lines to print. */
export function checkStructure(root) {
  return CRATES.filter((folder) => existsSync(path.join(root, folder))).flatMap((folder) => {
    const modules = readModules(root, folder);
    // Edges of the root are ignored: the root declares every module, and every module uses its
    // items.
    const inner = edges(modules).filter(({ from, to }) => from && to);
    return [
      ...circles(inner).map((circle) => [
        `${folder}: circle of ${circle.members.length} modules: ${circle.members.join(', ')}`,
        ...circle.edges.map(({ from, to, file, line, name }) => (
          `  ${from} -> ${to} by ${name} (${file}:${line})`)),
      ].join('\n')),
      ...duplicates(modules).map(({ name, places }) => (
        `${folder}: type ${name} is defined ${places.length} times: ${places.join(', ')}`)),
    ];
  });
}

/**
 * Returns the tree of src/: a line for each folder and each Rust file, with the file's first doc
 * line.
 */
export function tree(root, folder = 'src', indent = '') {
  const entries = readdirSync(path.join(root, folder), { withFileTypes: true });
  const lines = entries.sort((a, b) => a.name.localeCompare(b.name)).flatMap((entry) => {
    const inside = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return tree(root, inside, `${indent}  `);
    if (!entry.name.endsWith('.rs')) return [];
    const [, head = ''] = /^\/\/! *(.*)/m.exec(readFileSync(path.join(root, inside), 'utf8')) ?? [];
    return (`${indent}  ${entry.name}`.padEnd(36) + head).trimEnd();
  });
  return lines.length ? [`${indent}${path.basename(folder)}/`, ...lines] : [];
}

if (process.argv[1] === fromRoot('scripts/check-structure.mjs')) {
  await main(() => {
    if (process.argv.includes('--tree')) return console.log(tree(ROOT).join('\n'));
    const problems = checkStructure(ROOT);
    for (const problem of problems) console.log(problem);
    const count = problems.length;
    if (count) throw new Failure(`${count} circles and ambiguous type names: expected none`);
    return console.log('no import circles; every type name is defined once in its crate');
  });
}
