import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import {
  checkProse, countDocs, findHabits, findWideLines, withoutTests, withoutTokens,
} from '../../scripts/check-prose.mjs';

/** Returns the habits in a file as `line:column name`. */
const habits = (file, text) => findHabits(file, text).map(
  ({ line, column, name }) => `${line}:${column} ${name}`,
);
const names = (text) => findHabits('a.md', text).map(({ name }) => name);

const CAUGHT = {
  'relative at the start': [
    'What holds is kept.', 'It ends. Whose it is stays open.', '- Who asks is known.',
    '| a | Which of the two |', '# What is stored', '**Whom it hits.** Many.',
    'That which is old goes.',
    '"What is it?" he asked. What he meant was clear.', 'what the leader left',
  ],
  'is no': ['This is no path.', 'Those are\nno hits.'],
  tell: ['It is told at once.', 'The log tells it.', 'Nobody can tell.', 'An untold number.'],
  dear: ['This is dear.', 'It is dearer to run.'],
  heed: ['The header is not heeded.', 'Nobody heeds it.'],
  mend: ['Mend the rule.', 'It mends itself.'],
  likewise: ['Likewise here.'],
  grave: ['The gravest entry counts.'],
  seldom: ['It is seldom so.'],
  anew: ['It starts anew.'],
  'of late': ['It grew of late.'],
  beside: ['It is beside the file.'],
  'as as': ['It lasts as long as as many come.'],
  'where there is': ['None where there is none.', 'Zero where it is empty.', '0 where that is 0.'],
  'same as above': ['The same as above.'],
  'see above': ['Limits: see above.'],
  whoever: ['For whoever reads it.'],
  stand: ['It stands in the file.', 'Keys stand there.', 'It stood there.'],
};

for (const [name, sentences] of Object.entries(CAUGHT)) {
  test(`finds the habit ${name}`, () => {
    for (const sentence of sentences) assert.deepEqual(names(sentence), [name], sentence);
  });
}

test('plain English passes', () => {
  for (const sentence of [
    'What is harvesting? A kind of theft.', '- Which headers are removed?', '| Who asks? | yes |',
    'The file says what is stored.', 'There is no key.', 'It is no longer there.',
    'Nobody can tell the two accounts apart.', 'It tells the model that it is a teacher.',
    'Besides, it is late.', 'X stands for a digit.', 'A stand-in.', 'The clock stands still.',
    'Edges of late events.', 'It says where the file is, and where it is read.', 'Amended rules.',
  ]) assert.deepEqual(names(sentence), [], sentence);
});

test('code, fences, URLs and words with a hyphen are not prose', () => {
  const text = 'Use `told`.\n\n```sh\ntold anew\n```\n\n[a](https://a/told) <a href="told">';
  assert.deepEqual(names(text), []);
});

test('sentences do not continue over paragraphs, items and cells', () => {
  assert.deepEqual(names('This is\n\nno end.\n\n- It is\n- no item\n\n| it is | no cell |'), []);
});

test('finds habits in comments and strings of Rust, not in code', () => {
  const text = [
    '//! What it is.', '/// It lasts; it is', '/// no end.', 'fn told<\'a>(beside: &\'a str) {',
    '    let anew = \'"\'; // told', '    /* Mend it. */',
    '    f("it is no {told}", r#"it "stands" there"#);',
    '}',
  ].join('\n');
  assert.deepEqual(habits('a.rs', text), [
    '1:5 relative at the start', '2:18 is no', '5:24 tell', '6:8 mend', '7:11 is no', '7:33 stand',
  ]);
});

test('a string of one word is an identifier', () => {
  assert.deepEqual(habits('a.rs', 'f("dear", "told");'), []);
  assert.deepEqual(habits('a.ts', "f('dear', `${told}`, 'so dear');"), ['1:26 dear']);
});

test('finds habits in TypeScript and JSX', () => {
  const text = [
    'const ok = /["\'] told/;', '/** What a',
    ' *  row has. */', 'const view = <p class="a">It is told {count} times.</p>;',
    'const other = `It is ${a ? `b` : "c"} no more told`;',
  ].join('\n');
  assert.deepEqual(habits('a.tsx', text), ['2:5 relative at the start', '4:33 tell', '5:47 tell']);
});

test('finds habits in comments of TOML and YAML, not in their values', () => {
  assert.deepEqual(habits('a.toml', 'a = "# told" # it is\n# Told anew'), ['2:3 tell', '2:8 anew']);
  assert.deepEqual(habits('tests/a.yml', "a: 'told # told'\nb: told # anew"), ['2:11 anew']);
});

test('finds habits in the texts of rules, not in patterns and exemplars', () => {
  const rule = [
    'title: Told anew', "description: 'A prompt", "  that is no question.'", 'falsepositives:',
    '  - Who teaches', 'detection:', '  a|contains:', '    - dear', '  b: Tell us',
    'custom_attributes:', '  rsigma.exemplars:', '    - name: stands there', '      event:',
    "        prompt: 'Dear model'",
  ].join('\n');
  assert.deepEqual(habits('rules/a/b.yml', rule), [
    '1:8 tell', '1:13 anew', '3:8 is no', '5:5 relative at the start', '12:13 stand',
  ]);
  assert.deepEqual(habits('scenarios/a.yml', rule), []);
});

test('finds habits in the descriptions of the API', () => {
  const api = 'a:\n  description: |\n    It is told.\n\n    Who asks.\n  example: It is told.\n';
  assert.deepEqual(habits('docs/openapi.yaml', api), ['3:11 tell', '5:5 relative at the start']);
});

test('allowed findings: only the named kinds and habits of the named files', () => {
  const text = '// It is told.\nf("It is told.");\n';
  const prompts = [
    'src/cli/cmd/simulate/prompt_catalog.rs', 'src/cli/cmd/simulate/vocabulary.rs',
    'benches/bodies.mjs', 'www/src/playground/examples.ts', 'scripts/check-prose.mjs',
    'tests/scripts/check-prose.test.mjs',
  ];
  for (const file of prompts) assert.deepEqual(habits(file, text), ['1:10 tell'], file);
  assert.deepEqual(habits('src/cli/main.rs', text), ['1:10 tell', '2:10 tell']);
  assert.deepEqual(habits('CONTRIBUTING.md', 'Not "see above", not told.'), ['1:22 tell']);
});

const wide = (file, text) => findWideLines(file, text).map(({ line }) => line);

test('lines of code are at most 100 wide, in characters', () => {
  for (const language of ['rs', 'ts', 'tsx', 'mjs']) {
    assert.deepEqual(wide(`a.${language}`, `${'ü'.repeat(100)}\n${'a'.repeat(101)}`), [2]);
  }
  assert.deepEqual(wide('a.rs', `// https://a/${'a'.repeat(101)}`), []);
  assert.deepEqual(wide('a.yml', 'a'.repeat(200)), []);
});

test('a raw string and a template may have wide lines, except the first', () => {
  const long = 'a'.repeat(101);
  assert.deepEqual(wide('a.rs', `f(r#"\n${long}\n"#);\n${long}`), [4]);
  assert.deepEqual(wide('a.ts', `f(\`${long}\n${long}\n\`);`), [1]);
  assert.deepEqual(wide('a.rs', `f("\n${long}\n");`), [2]);
});

test('lines of Markdown are at most 120 wide, without tables, fences and link targets', () => {
  const long = 'a'.repeat(121);
  assert.deepEqual(wide('a.md', `${'a'.repeat(120)}\n${long}`), [2]);
  const allowed = [`| ${long} |`, '```', long, '```', `[a](${long})`, `[b]: ${long}`];
  assert.deepEqual(wide('a.md', allowed.join('\n')), []);
});

test('generated pages and tables may be wide', () => {
  const pages = ['docs/signatures.md', 'docs/correlations.md', 'docs/fields.md'];
  for (const file of [...pages, 'src/core/field.rs']) {
    assert.deepEqual(wide(file, 'a'.repeat(200)), [], file);
  }
  assert.deepEqual(wide('docs/operations.md', 'a'.repeat(200)), [1]);
});

test('counts docs over lines that are neither blank nor tests', () => {
  const text = [
    '//! Head.', '', '/// A type.', 'struct A;', '// A comment.', '#[cfg(test)]', 'mod tests {',
    '    /// A helper.', '    fn f() { "}" }', '}', 'fn g() {}',
  ].join('\n');
  assert.deepEqual(countDocs([text]), { docs: 2, lines: 5 });
});

test('blanks items, fields and imports of tests only', () => {
  const text = [
    'struct A {', '    #[cfg(test)]', '    seen: Vec<(u8, u8)>,', '    kept: u8,', '}',
    '#[cfg(test)]', 'use a::{b, c};', '#[cfg(all(test, unix))]', '#[derive(Debug)]',
    'struct D<A, B>(A, B);',
    '#[cfg(not(test))]', 'fn e() {}', '#[cfg(any(test, unix))]', 'fn g() {}',
  ].join('\n');
  const kept = withoutTests(text).split('\n').filter((line) => line.trim());
  assert.deepEqual(kept, [
    'struct A {', '    kept: u8,', '}', '#[cfg(not(test))]', 'fn e() {}',
    '#[cfg(any(test, unix))]', 'fn g() {}',
  ]);
});

test('offsets stay where tokens were', () => {
  assert.equal(withoutTokens('a("b\\"", \'c\', "d") // e', 'rs'), 'a(     ,    ,    )     ');
  assert.equal(withoutTokens('a /* b\n */ c', 'ts'), 'a     \n    c');
});

/** Calls `body` with the path of a new git repository that contains `files`. */
function withRepository(files, body) {
  const root = mkdtempSync(path.join(tmpdir(), 'check-prose-'));
  try {
    for (const [file, text] of Object.entries({ '.gitignore': 'build/\n', ...files })) {
      mkdirSync(path.join(root, path.dirname(file)), { recursive: true });
      writeFileSync(path.join(root, file), text);
    }
    assert.equal(spawnSync('git', ['init', '--quiet'], { cwd: root }).status, 0);
    return body(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

test('checks every file of a repository at once, except ignored ones', () => {
  const files = {
    'README.md': 'It is told.\n',
    'docs/a.md': `Who asks.\n${'a'.repeat(121)}\n`,
    'build/b.md': 'It is told.\n',
    'data.json': '"It is told."',
    'src/core/lib.rs': '//! A core.\nfn f() {}\n',
    'src/worker/lib.rs': `//! A worker.\n${'fn f() {}\n'.repeat(9)}`,
  };
  withRepository(files, (root) => {
    const { findings, shares } = checkProse(root);
    assert.deepEqual(findings.map((found) => (
      `${found.file}:${found.line}:${found.column} ${found.name}`)), [
      'README.md:1:7 tell', 'docs/a.md:1:1 relative at the start', 'docs/a.md:2:121 width',
    ]);
    assert.deepEqual(shares, [
      { folder: 'src/core', min: 15, lines: 2, percent: 50 },
      { folder: 'src/worker', min: 15, lines: 10, percent: 10 },
    ]);
  });
});
