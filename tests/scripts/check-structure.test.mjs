import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import {
  checkStructure, circles, duplicates, edges, flatten, readModules, tree,
} from '../../scripts/check-structure.mjs';

/** Calls `body` with the path of a new folder that contains `files` below src/. */
function withSources(files, body) {
  const root = mkdtempSync(path.join(tmpdir(), 'check-structure-'));
  try {
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(path.join(root, 'src', path.dirname(file)), { recursive: true });
      writeFileSync(path.join(root, 'src', file), text);
    }
    return body(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

/** Calls `body` with the modules of a crate. The names of its files are relative to src/core. */
function crate(files, body) {
  const entries = Object.entries({ 'lib.rs': '', ...files });
  const sources = Object.fromEntries(entries.map(([file, text]) => [`core/${file}`, text]));
  return withSources(sources, (root) => body(readModules(root, 'src/core')));
}

/** Returns the edges between the modules of a crate with these files, as `from -> to`. */
const arrows = (files) => crate(files, (modules) => (
  edges(modules).map(({ from, to }) => `${from} -> ${to}`).sort()));

test('flattens use trees', () => {
  const names = (use) => flatten(use).map(
    ({ names: all, alias }) => `${all.join('::')}=${alias}`,
  );
  assert.deepEqual(names('crate::a::{self, b::{C, D as E}, f::*}'), [
    'crate::a=a', 'crate::a::b::C=C', 'crate::a::b::D=E', 'crate::a::f::*=*',
  ]);
  assert.deepEqual(names('{ a::B,\n c }'), ['a::B=B', 'c=c']);
});

test('resolves crate, super, self and child modules', () => {
  assert.deepEqual(arrows({
    'a.rs': 'mod b; mod c; use self::b::B; fn f() { c::g(); }',
    'a/b.rs': 'use super::c::C; use crate::d::{D};',
    'a/c.rs': 'use super::super::d;',
    'd.rs': 'use std::fmt; use serde::Serialize;',
  }), ['a -> a::b', 'a -> a::c', 'a::b -> a::c', 'a::b -> d', 'a::c -> d']);
});

test('resolves paths in code, through imported modules and in macros', () => {
  assert.deepEqual(arrows({
    'a.rs': [
      'use crate::b; fn f() -> crate::d::D { b::c::g() }',
      'macro_rules! m { () => { $crate::e::E } }',
    ].join('\n'),
    'b.rs': 'pub mod c;', 'b/c.rs': '', 'd.rs': '', 'e.rs': '',
  }), ['a -> b', 'a -> b::c', 'a -> d', 'a -> e']);
});

test('finds a use inside a function and an inline module', () => {
  assert.deepEqual(arrows({
    'a.rs': 'fn f() { use crate::b::B; } mod inner { use super::super::c::C; use super::f; }',
    'b.rs': '', 'c.rs': '',
  }), ['a -> b', 'a -> c']);
});

test('an item of the parent is an edge, and so is a re-export, but not a declaration', () => {
  assert.deepEqual(arrows({
    'a.rs': 'mod b; mod c; pub use c::C; pub struct A;', 'a/b.rs': 'use super::A;', 'a/c.rs': '',
  }), ['a -> a::c', 'a::b -> a']);
});

test('a name that the root re-exports belongs to its module', () => {
  const files = { 'lib.rs': 'mod a; mod b; pub use a::A;', 'a.rs': '', 'b.rs': 'use crate::A;' };
  assert.deepEqual(arrows(files), [' -> a', 'b -> a']);
});

test('tests, comments, strings and visibilities are not edges', () => {
  assert.deepEqual(arrows({
    'a.rs': [
      '// use crate::b::B;', 'pub(in crate::b) const C: &str = "crate::b";',
      '#[cfg(test)]', 'mod early { use crate::b::B; }', 'fn f() {}', '#[cfg(test)]',
      'pub(crate) mod tests { use crate::b::B; fn g() { "}"; } }', '#[cfg(test)]',
      'pub(crate) mod outside;',
    ].join('\n'),
    'a/outside.rs': 'use crate::b::B;',
    'b.rs': '',
  }), []);
});

test('finds circles with their edges', () => {
  const list = ['a b', 'b c', 'c a', 'c d', 'd e', 'e d', 'f a'].map((pair) => {
    const [from, to] = pair.split(' ');
    return { from, to };
  });
  const found = circles(list).map((circle) => [circle.members.join(''), circle.edges.length]);
  assert.deepEqual(found.sort(), [['abc', 3], ['de', 2]]);
  assert.deepEqual(circles([{ from: 'a', to: 'b' }, { from: 'c', to: 'b' }]), []);
});

test('finds type names that are defined twice', () => {
  const files = {
    'a.rs': 'pub struct Entry; enum Kind {} trait Read {} type Row = u8; type Map<T> = T;',
    'b.rs': 'mod inner {\n pub(crate) struct Entry<T>(T);\n}\nenum Row {}',
  };
  crate(files, (modules) => assert.deepEqual(duplicates(modules), [
    { name: 'Entry', places: ['src/core/a.rs:1', 'src/core/b.rs:2'] },
    { name: 'Row', places: ['src/core/a.rs:1', 'src/core/b.rs:4'] },
  ]));
});

test('types of tests, functions, impls and macros may share a name', () => {
  const files = {
    'a.rs': 'struct A; impl Iterator for A { type Item = u8; fn f() { struct B; } }',
    'b.rs': 'struct B; trait Item {} #[cfg(test)] mod tests { struct A; }',
    'c.rs': 'macro_rules! m { () => { struct A; } }',
  };
  crate(files, (modules) => assert.deepEqual(duplicates(modules), []));
});

test('checks the crates that exist, each by itself', () => {
  withSources({
    'core/lib.rs': 'mod a; mod b; struct A; fn f() { a::f(); }',
    'core/a.rs': 'use crate::{A,\n b::B};',
    'core/b.rs': '\nuse crate::a::f;',
    'cli/main.rs': 'struct A; struct C;',
    'cli/d.rs': 'struct C;',
    'worker/build.rs': 'struct W;',
    'worker/lib.rs': 'struct W;',
    'other/lib.rs': 'struct O; mod x { struct O; }',
  }, (root) => {
    assert.deepEqual(checkStructure(root), [
      [
        'src/core: circle of 2 modules: a, b',
        '  a -> b by crate::b::B (src/core/a.rs:1)',
        '  b -> a by crate::a::f (src/core/b.rs:2)',
      ].join('\n'),
      'src/cli: type C is defined 2 times: src/cli/d.rs:1, src/cli/main.rs:1',
    ]);
  });
});

test('prints the tree with the first line of each file', () => {
  withSources({
    'core/lib.rs': '//! The core.\n//! More.\n', 'core/a/b.rs': 'fn f() {}\n',
    'core/Cargo.toml': '', 'empty/x.txt': '',
  }, (root) => {
    assert.deepEqual(tree(root).map((line) => line.replace(/ {3,}The/, ' | The')), [
      'src/', '  core/', '    a/', '      b.rs', '    lib.rs | The core.',
    ]);
  });
});
