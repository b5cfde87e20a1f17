// The programs of docs/origin.md that verify tags, over the test vectors. Each program is copied
// from the page. The program in Rust runs in tests/integration/tags.rs.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fromRoot } from '../../scripts/lib/proc.mjs';

const PAGE = readFileSync(fromRoot('docs/origin.md'), 'utf8');
const { vectors } = JSON.parse(readFileSync(fromRoot('tests/fixtures/tag-vectors.json'), 'utf8'));

/**
 * For each language of the page: the command that must exist, the files of the program and of the
 * driver, and the commands that run them. The standard input of the last command has the vectors.
 */
const LANGUAGES = {
  python: {
    probe: ['python3', '--version'],
    files: ['verify.py', 'driver.py'],
    commands: [['python3', 'driver.py']],
  },
  js: {
    probe: [process.execPath, '--version'],
    files: ['verify.mjs', 'driver.mjs'],
    commands: [[process.execPath, 'driver.mjs']],
  },
  go: {
    probe: ['go', 'version'],
    files: ['verify.go', 'driver.go'],
    commands: [['go', 'run', 'verify.go', 'driver.go']],
  },
  java: {
    probe: ['javac', '-version'],
    files: ['HedgerowTags.java', 'Driver.java'],
    commands: [
      ['javac', '-encoding', 'UTF-8', 'HedgerowTags.java', 'Driver.java'],
      ['java', '-cp', '.', 'Driver'],
    ],
  },
  ruby: {
    probe: ['ruby', '--version'],
    files: ['verify.rb', 'driver.rb'],
    commands: [['ruby', 'driver.rb']],
  },
};

/** Returns the only code block of a language on the page. */
function programOf(language) {
  const blocks = [...PAGE.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'gm'))];
  assert.equal(blocks.length, 1, `docs/origin.md has one block of ${language}`);
  return blocks[0][1];
}

/** Returns the vectors as lines, which every language can read without a library. */
const lines = vectors.flatMap(({ now, secrets, headers }) => [
  `now\t${now}`,
  ...secrets.map((secret) => `secret\t${secret}`),
  ...Object.entries(headers).map(([name, value]) => `header\t${name}\t${value}`),
  'end',
]);

/** Runs a program over all vectors in a folder, and returns its results. */
function run(folder, { commands }) {
  // `go` needs a folder for its cache.
  const env = { ...process.env, GOCACHE: path.join(folder, 'cache'), GO111MODULE: 'off' };
  let output = '';
  for (const [command, ...args] of commands) {
    const options = { cwd: folder, env, input: `${lines.join('\n')}\n`, encoding: 'utf8' };
    const { status, stdout, stderr, error } = spawnSync(command, args, options);
    assert.equal(status, 0, `${command}: ${error?.message ?? stderr}`);
    output = stdout;
  }
  return output.trim().split('\n');
}

for (const [language, settings] of Object.entries(LANGUAGES)) {
  test(`the program in ${language} judges every vector`, (context) => {
    const program = programOf(language);
    const [command, ...args] = settings.probe;
    if (spawnSync(command, args).status !== 0) {
      const reason = `${command} is not installed: the program in ${language} was not run`;
      assert.ok(!process.env.HEDGEROW_STRICT, `skipped: ${reason}`);
      return context.skip(reason);
    }
    const folder = mkdtempSync(path.join(tmpdir(), 'hedgerow-tags-'));
    try {
      const [programFile, driverFile] = settings.files;
      const code = program.replace(/^package hedgerow$/m, 'package main');
      writeFileSync(path.join(folder, programFile), code);
      copyFileSync(
        fromRoot('tests/fixtures/tag-drivers', driverFile),
        path.join(folder, driverFile),
      );
      const results = run(folder, settings);
      assert.deepEqual(
        results.map((result, index) => [vectors[index]?.name, result]),
        vectors.map(({ name, valid }) => [name, String(valid)]),
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

test('the vectors contain both results', () => {
  assert.deepEqual([...new Set(vectors.map(({ valid }) => valid))].sort(), [false, true]);
});
