// The release without its builds: wrangler.toml, bills of materials, archives, sums and signature.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { keyProblem, pack, sign, writeSums } from '../../scripts/lib/archive.mjs';
import { targetEnv, targetProblems } from '../../scripts/lib/cli-targets.mjs';
import { fromRoot, ROOT, tryCapture } from '../../scripts/lib/proc.mjs';
import {
  commandLineParts,
  releaseEpoch,
  releaseVersion,
  standalonePage,
  workerParts,
  wranglerToml,
  writeWorker,
} from '../../scripts/lib/release.mjs';
import { licenceTexts, linkedCrates, sbom, uuidV5 } from '../../scripts/lib/sbom.mjs';

const EPOCH = 1_796_000_000;
const folders = [];
after(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

function temporary() {
  const folder = mkdtempSync(path.join(tmpdir(), 'hedgerow-release-'));
  folders.push(folder);
  return folder;
}

/** Runs a command and returns its output. Fails if the command fails. */
function capture(command, args, options) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    ...options,
  });
  assert.equal(status, 0, `${command}: ${error?.message ?? stderr}`);
  return stdout;
}

/** Skips a test because a tool is missing. In continuous integration, this is a failure. */
function skip(context, reason) {
  assert.ok(!process.env.HEDGEROW_STRICT, `skipped: ${reason}`);
  context.skip(reason);
}

const SETTINGS = readFileSync(fromRoot('wrangler.toml'), 'utf8');

test('the released wrangler.toml lacks only [build]', () => {
  const derived = wranglerToml(SETTINGS).split('\n');
  const removed = SETTINGS.split('\n').filter((line) => line && !derived.includes(line));
  assert.deepEqual(removed.filter((line) => !line.startsWith('#')).map((l) => l.split(' ')[0]), [
    '[build]',
    'command',
    'watch_dir',
  ]);
  const sections = (text) => text.match(/^\[.+\]|^(main|directory|binding|name) = .+/gm);
  const kept = sections(SETTINGS).filter((line) => line !== '[build]');
  assert.deepEqual(sections(derived.join('\n')), kept);
  assert.match(derived.join('\n'), /# Workers Logs receives.*(?:\n# .*)*\n\[observability\]/);
});

for (const [name, text] of [
  ['no [build]', 'name = "a"\n'],
  ['a second [build]', '[build]\ncommand = "a"\n\n[build]\ncommand = "b"\n'],
  ['an empty line in [build]', '[build]\ncommand = "a"\n\nwatch_dir = ["src"]\n'],
]) {
  test(`wrangler.toml with ${name} is refused`, () => {
    assert.throws(() => wranglerToml(text), /wrangler\.toml has another form/);
  });
}

test('package.json and Cargo.toml have one version, and the crates inherit it', () => {
  assert.match(releaseVersion(), /^\d+\.\d+\.\d+$/);
  const lock = JSON.parse(readFileSync(fromRoot('package-lock.json'), 'utf8'));
  assert.equal(lock.packages[''].version ?? lock.version, releaseVersion());
  for (const crate of ['core', 'sigma', 'cli', 'worker', 'wasm']) {
    const manifest = readFileSync(fromRoot('src', crate, 'Cargo.toml'), 'utf8');
    assert.match(manifest, /^version\.workspace = true$/m, crate);
  }
  const cargo = '[workspace.package]\nversion = "2.0.0"\n';
  assert.throws(() => releaseVersion('{"version": "1.0.0"}', cargo), /1\.0\.0.+2\.0\.0/s);
});

test('the time of a release is a number of seconds', () => {
  assert.equal(releaseEpoch('17'), 17);
  assert.throws(() => releaseEpoch('yesterday'), /SOURCE_DATE_EPOCH is 'yesterday'/);
});

test('links of a page lead to the repository', () => {
  const page = '[a](x.md#b) [c](../rules/README.md) [d](#e) [f](https://g.example)';
  const base = 'https://github.com/hedgerow/hedgerow/blob/v1.2.3';
  assert.equal(
    standalonePage(page, '1.2.3'),
    `[a](${base}/docs/x.md#b) [c](${base}/rules/README.md) [d](#e) [f](https://g.example)`,
  );
});

const PROGRAMS = {
  'hedgerow-worker': {
    parts: workerParts,
    contains: ['worker', 'hedgerow-wasm', 'preact', '@codemirror/state', 'style-mod', 'rust-std'],
    lacks: ['vite', 'wrangler', 'proptest', 'ring', 'serde_derive'],
  },
  'hedgerow-cli': {
    parts: () => commandLineParts('aarch64-unknown-linux-musl'),
    contains: ['ureq', 'ring', 'musl', 'hedgerow-sigma'],
    lacks: ['cc', 'insta', 'proptest', 'worker', 'preact'],
  },
};
/** Crates that name a licence in their manifest, but contain no text of it. */
const WITHOUT_LICENCE_FILE = ['alloc-stdlib', 'rsigma-parser', 'whatlang'];
const PURL = /^pkg:(cargo\/[\w-]+|npm\/(%40[\w-]+\/)?[\w.-]+)@\d[\w.-]*(%2B[\w.-]+)?$/;

for (const [name, { parts: read, contains, lacks }] of Object.entries(PROGRAMS)) {
  test(`the bill of materials of ${name} lists its parts`, (context) => {
    if (!tryCapture('cargo', ['--version'])) return skip(context, 'cargo was not run');
    const parts = read();
    const text = sbom({ name, version: '1.2.3', parts, epoch: EPOCH });
    const reversed = sbom({ name, version: '1.2.3', parts: parts.toReversed(), epoch: EPOCH });
    assert.equal(text, reversed);
    const document = JSON.parse(text);
    assert.equal(document.bomFormat, 'CycloneDX');
    assert.equal(document.specVersion, '1.6');
    assert.equal(document.version, 1);
    assert.match(document.serialNumber, /^urn:uuid:[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
    assert.equal(document.metadata.timestamp, new Date(EPOCH * 1000).toISOString());
    assert.equal(document.metadata.component.name, name);
    assertComponents(document);
    const names = document.components.map((component) => component.name);
    assert.deepEqual(contains.filter((part) => !names.includes(part)), []);
    assert.deepEqual(lacks.filter((part) => names.includes(part)), []);
    assert.ok(!text.includes(ROOT), 'a path of this machine');
    const licences = licenceTexts(parts);
    for (const component of document.components.filter(({ purl }) => purl)) {
      assert.ok(licences.includes(`${component.name} ${component.version}: `), component.name);
    }
    const withoutFile = licences.match(/^.+(?= \(the package contains no licence file\)$)/gm);
    const crates = withoutFile.map((line) => line.split(' ')[0]);
    assert.deepEqual(crates.filter((crate) => !WITHOUT_LICENCE_FILE.includes(crate)), []);
  });
}

/** Asserts that each component is complete, and that the graph names only components. */
function assertComponents({ components, dependencies, metadata }) {
  const refs = components.map((component) => component['bom-ref']);
  assert.equal(new Set(refs).size, refs.length, 'two components have one reference');
  for (const component of components) {
    const { type, name, purl, licenses, hashes } = component;
    assert.equal(type, 'library');
    const unpublished = name.startsWith('hedgerow-') || ['rust-std', 'musl'].includes(name);
    if (unpublished) assert.equal(purl, undefined, name);
    else {
      assert.match(purl, PURL);
      assert.match(hashes?.[0].content ?? '', /^([\da-f]{64}|[\da-f]{128})$/, name);
    }
    assert.equal(licenses.length, 1, name);
    const licence = licenses[0].expression ?? licenses[0].license.name;
    assert.match(licence, /^[\w.()+ -]+$/, `licence of ${name}`);
  }
  const known = new Set([...refs, metadata.component['bom-ref']]);
  assert.deepEqual(dependencies.map(({ ref }) => ref).sort(), [...known].sort());
  const uses = dependencies.flatMap(({ dependsOn }) => dependsOn);
  assert.deepEqual(uses.filter((ref) => !known.has(ref)), []);
  assert.ok(dependencies[0].dependsOn.length > 0);
}

test('crates that only run during a build are not parts', () => {
  const crate = (name, kind = 'lib') => ({
    id: name,
    name,
    version: '1.0.0',
    license: name === 'c' ? null : 'MIT/Apache-2.0',
    source: 'registry',
    manifest_path: `/x/${name}/Cargo.toml`,
    targets: [{ kind: [kind] }],
  });
  const dep = (pkg, ...kinds) => ({ pkg, dep_kinds: kinds.map((kind) => ({ kind })) });
  const deps = [dep('b', 'build'), dep('c', null), dep('d', 'dev'), dep('m', null)];
  const metadata = {
    packages: [crate('a'), crate('b'), crate('c'), crate('d'), crate('m', 'proc-macro')],
    resolve: { nodes: [{ id: 'a', deps }, { id: 'c', deps: [dep('a', null)] }] },
  };
  const parts = linkedCrates(metadata, 'a');
  assert.deepEqual(parts.map((part) => part.component.name), ['a', 'c']);
  assert.deepEqual(parts[0].component.licenses, [{ expression: 'MIT OR Apache-2.0' }]);
  assert.match(parts[1].component.licenses[0].license.name, /THIRD-PARTY-LICENSES/);
});

test('a UUID of version 5 is that of RFC 9562', () => {
  assert.equal(uuidV5('http://example.com/'), '0a300ee9-f9e4-5697-a51a-efc7fafaba67');
});

/** Writes a directory to pack. `umask` and `time` (seconds) must not change the archive. */
function fixture({ umask, time, reverse }) {
  const parent = temporary();
  const before = process.umask(umask);
  try {
    const files = { 'z.txt': 'z', 'a/b.txt': 'b', hedgerow: '#!/bin/sh\n' };
    const names = Object.keys(files);
    for (const name of reverse ? names.reverse() : names) {
      const file = path.join(parent, 'x', name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, files[name]);
      utimesSync(file, time, time);
    }
    chmodSync(path.join(parent, 'x/z.txt'), reverse ? 0o600 : 0o775);
  } finally {
    process.umask(before);
  }
  const archive = path.join(parent, 'x.tar.gz');
  pack({ parent, name: 'x', archive, epoch: EPOCH, executables: ['hedgerow'] });
  return archive;
}

test('an archive does not depend on umask, times and the order of files', () => {
  const first = fixture({ umask: 0o022, time: 1_000_000, reverse: false });
  const second = fixture({ umask: 0o077, time: 2_000_000, reverse: true });
  assert.ok(readFileSync(first).equals(readFileSync(second)));
  const env = { ...process.env, TZ: 'UTC', LC_ALL: 'C' };
  const list = capture('tar', ['-tvf', first, '--numeric-owner'], { env }).trim().split('\n');
  assert.deepEqual(list.map((line) => line.split(/\s+/)).map(([mode, owner, , date, , name]) => (
    [mode, owner, date, name])), [
    ['drwxr-xr-x', '0/0', '2026-11-30', 'x/'],
    ['drwxr-xr-x', '0/0', '2026-11-30', 'x/a/'],
    ['-rw-r--r--', '0/0', '2026-11-30', 'x/a/b.txt'],
    ['-rwxr-xr-x', '0/0', '2026-11-30', 'x/hedgerow'],
    ['-rw-r--r--', '0/0', '2026-11-30', 'x/z.txt'],
  ]);
});

/** Writes a directory with two files and their sums, and returns it. */
function summed() {
  const directory = temporary();
  for (const name of ['b.tar.gz', 'a.json']) writeFileSync(path.join(directory, name), name);
  writeSums(directory);
  return directory;
}

test('sha256sum accepts the sums, until a file changes', () => {
  const directory = summed();
  const check = () => spawnSync('sha256sum', ['-c', '--strict', 'SHA256SUMS'], {
    cwd: directory,
    encoding: 'utf8',
  });
  assert.equal(check().stdout, 'a.json: OK\nb.tar.gz: OK\n');
  writeSums(directory);
  assert.equal(check().status, 0, 'a second call must not list SHA256SUMS itself');
  writeFileSync(path.join(directory, 'a.json'), 'changed');
  assert.equal(check().status, 1);
});

test('minisign accepts the signature, until the sums change', (context) => {
  if (tryCapture('minisign', ['-v']) === null) {
    return skip(context, 'minisign is not installed: the test of the signature was not run');
  }
  const directory = summed();
  const sums = path.join(directory, 'SHA256SUMS');
  const key = path.join(temporary(), 'release.key');
  capture('minisign', ['-G', '-W', '-f', '-s', key, '-p', `${key}.pub`]);
  sign(sums, key, '1.2.3');
  const verify = () => spawnSync('minisign', ['-V', '-p', `${key}.pub`, '-m', sums], {
    encoding: 'utf8',
  });
  assert.match(verify().stdout, /Trusted comment: hedgerow 1\.2\.3/);
  writeFileSync(sums, 'changed\n');
  assert.notEqual(verify().status, 0);
  assert.throws(() => sign(sums, `${key}.pub`, '1.2.3'), /could not sign/);
});

test('a missing key and an unknown target are reported with a remedy', () => {
  assert.equal(keyProblem(undefined), null);
  assert.match(keyProblem('/absent/key'), /does not exist.+minisign -G/);
  assert.deepEqual(targetProblems(['x']), [
    '--targets x: expected x86_64-unknown-linux-musl or aarch64-unknown-linux-musl',
  ]);
});

test('a missing C compiler is reported with a package and the other target', () => {
  const before = process.env.PATH;
  process.env.PATH = temporary();
  try {
    const targets = ['aarch64-unknown-linux-musl', 'x86_64-unknown-linux-musl'];
    assert.match(
      targetProblems(targets)[0],
      /aarch64.+apt-get install clang.+--targets x86_64-unknown-linux-musl/,
    );
    assert.match(targetProblems(targets.slice(1))[0], /x86_64.+musl-tools`\.$/);
  } finally {
    process.env.PATH = before;
  }
});

test('the build of the command line replaces all paths of this machine', () => {
  const { CARGO_ENCODED_RUSTFLAGS: flags } = targetEnv('x86_64-unknown-linux-musl');
  const replaced = flags.split('\x1f').filter((flag) => flag.startsWith('--remap-path-prefix='));
  assert.deepEqual(replaced.map((flag) => flag.split('=')[2]), ['/hedgerow', '/target', '/cargo']);
  assert.ok(replaced[0].includes(ROOT));
});

test('the archive of the Worker is complete, and only built files are in build/', () => {
  const build = temporary();
  const out = path.join(temporary(), 'hedgerow-worker-1.2.3');
  const write = () => writeWorker({ build, out, version: '1.2.3', parts: [], epoch: EPOCH });
  assert.throws(write, /lacks index\.js, index_bg\.wasm, console\/_hedgerow\/index\.html/);
  mkdirSync(path.join(build, 'console/_hedgerow'), { recursive: true });
  const files = ['index.js', 'index_bg.wasm', 'size.json', '.stamp'];
  for (const name of [...files, 'console/_hedgerow/index.html']) {
    writeFileSync(path.join(build, name), name);
  }
  write();
  const has = (name) => existsSync(path.join(out, name));
  const expected = ['LICENSE', 'CHANGELOG.md', 'INSTALL.md', 'UPGRADE.md', 'package.json'];
  const notices = ['THIRD-PARTY-LICENSES.txt', 'sbom.cdx.json', 'wrangler.toml'];
  const main = /^main = "(.+)"/m.exec(readFileSync(path.join(out, 'wrangler.toml'), 'utf8'))[1];
  const built = [main, 'build/index_bg.wasm', 'build/console/_hedgerow/index.html'];
  assert.deepEqual([...expected, ...notices, ...built].filter((name) => !has(name)), []);
  assert.deepEqual(['build/size.json', 'build/.stamp'].filter(has), []);
  const { devDependencies } = JSON.parse(readFileSync(path.join(out, 'package.json'), 'utf8'));
  assert.match(devDependencies.wrangler, /^\d+\.\d+\.\d+$/);
});
