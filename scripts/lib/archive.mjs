// Packs directories into archives with the same bytes on each machine. Writes and signs the list of
// their sums.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { Failure } from './proc.mjs';

/** Runs a command with an input, and returns its output as bytes. Throws if the command fails. */
function output(command, args, options = {}) {
  const env = { ...process.env, LC_ALL: 'C' };
  const spawned = spawnSync(command, args, { env, maxBuffer: 1 << 30, ...options });
  if (spawned.status === 0) return spawned.stdout;
  const reason = spawned.error?.code === 'ENOENT' ? 'was not found' : String(spawned.stderr).trim();
  throw new Failure(`${command}: ${reason}\n  Install it from your distribution (GNU tar, gzip).`);
}

/**
 * Packs `parent/name` into a `.tar.gz`. Names are sorted, each file has the time `epoch` (seconds
 * since 1970), owner 0, and mode 755 if it is in `executables`, else 644.
 */
export function pack({ parent, name, archive, epoch, executables = [] }) {
  setModes(path.join(parent, name), executables);
  const time = ['--sort=name', `--mtime=@${epoch}`, '--owner=0', '--group=0', '--numeric-owner'];
  const tar = output('tar', ['--create', '--format=ustar', ...time, '--directory', parent, name]);
  writeFileSync(archive, output('gzip', ['-9', '--no-name', '--stdout'], { input: tar }));
}

/** Sets the modes of a directory and its content: they do not depend on the umask. */
function setModes(directory, executables) {
  chmodSync(directory, 0o755);
  for (const entry of readdirSync(directory, { recursive: true })) {
    const file = path.join(directory, String(entry));
    const runs = statSync(file).isDirectory() || executables.includes(path.basename(file));
    chmodSync(file, runs ? 0o755 : 0o644);
  }
}

/** Writes `SHA256SUMS` of all files in a directory, as `sha256sum` does, sorted by name. */
export function writeSums(directory) {
  const sums = path.join(directory, 'SHA256SUMS');
  rmSync(sums, { force: true });
  rmSync(`${sums}.minisig`, { force: true });
  const sum = (name) =>
    createHash('sha256').update(readFileSync(path.join(directory, name))).digest('hex');
  const lines = readdirSync(directory).sort().map((name) => `${sum(name)}  ${name}\n`);
  writeFileSync(sums, lines.join(''));
  return sums;
}

/**
 * Signs a file with a secret key of minisign, as `FILE.minisig`. `version` is part of the trusted
 * comment. minisign asks for the passphrase on the terminal, if the key has one.
 */
export function sign(file, key, version) {
  const comment = `hedgerow ${version}`;
  const args = ['-S', '-s', key, '-t', comment, '-c', comment, '-m', file];
  const { status, error } = spawnSync('minisign', args, { stdio: 'inherit' });
  if (error?.code === 'ENOENT') {
    throw new Failure('minisign was not found.\n  Install it: `apt-get install minisign`.');
  }
  if (status !== 0) {
    throw new Failure(`minisign could not sign ${file} with ${key}.\n  Its message is above.`);
  }
}

/** Returns a message if the key of `--sign` cannot be read, else null. */
export function keyProblem(key) {
  if (!key || existsSync(key)) return null;
  return `--sign ${key}: the file does not exist. Make a key: \`minisign -G -s ${key}\`.`;
}
