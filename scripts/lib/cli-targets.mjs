// Builds the command line as a static program for Linux. One of its crates, ring, contains C and
// assembly, so a target needs a C compiler; the linker is the one of the Rust toolchain.
import { spawnSync } from 'node:child_process';
import { homedir } from 'node:os';
import path from 'node:path';
import { targetDirectory } from './build.mjs';
import { fromRoot, ROOT, run, tryCapture } from './proc.mjs';
import { hasTarget } from './toolchain.mjs';

/** Targets of the command line: C compilers in the order of preference, and a package with one. */
export const CLI_TARGETS = {
  'x86_64-unknown-linux-musl': { compilers: ['musl-gcc', 'cc', 'clang'], install: 'musl-tools' },
  'aarch64-unknown-linux-musl': { compilers: ['clang', 'aarch64-linux-gnu-gcc'], install: 'clang' },
};

/** Returns a C compiler for a target, or null. The variable `CC_<target>` overrides the choice. */
function compilerFor(target) {
  const chosen = process.env[`CC_${underscored(target)}`];
  if (chosen) return chosen;
  const [arch] = target.split('-');
  const fits = (command) => {
    const { status, stdout } = spawnSync(command, ['-dumpmachine'], { encoding: 'utf8' });
    // clang compiles for every target.
    return status === 0 && (command === 'clang' || stdout.startsWith(`${arch}-`));
  };
  return CLI_TARGETS[target].compilers.find(fits) ?? null;
}

const underscored = (target) => target.replaceAll('-', '_');

/** Returns the problems that prevent builds for these targets, each with a remedy. */
export function targetProblems(targets) {
  const known = Object.keys(CLI_TARGETS);
  return targets.flatMap((target) => {
    if (!CLI_TARGETS[target]) return [`--targets ${target}: expected ${known.join(' or ')}`];
    if (compilerFor(target)) return [];
    const { install } = CLI_TARGETS[target];
    const others = known.filter((other) => other !== target && targets.includes(other));
    const rest = others.length ? `, or leave it out: \`--targets ${others.join(',')}\`` : '';
    const remedy = `\`apt-get install ${install}\`${rest}`;
    return [`a C compiler for ${target} was not found: ${remedy}.`];
  });
}

/** Returns the environment of a build for a target. It keeps local paths out of the program. */
export function targetEnv(target) {
  const home = process.env.CARGO_HOME ?? path.join(homedir(), '.cargo');
  const prefixes = [`${ROOT}=/hedgerow`, `${targetDirectory()}=/target`, `${home}=/cargo`];
  const compiler = compilerFor(target);
  const flags = [
    ...['-C', 'linker=rust-lld', '-C', 'link-self-contained=yes', '-C', 'strip=symbols'],
    ...prefixes.map((prefix) => `--remap-path-prefix=${prefix}`),
  ];
  const name = underscored(target);
  return {
    // Unlike RUSTFLAGS, this variable allows paths with spaces.
    CARGO_ENCODED_RUSTFLAGS: flags.join('\x1f'),
    [`CC_${name}`]: compiler,
    // musl lacks the checked functions that some distributions enable.
    [`CFLAGS_${name}`]: `-U_FORTIFY_SOURCE -ffile-prefix-map=${home}=/cargo`,
    ...(compiler === 'clang' && tryCapture('llvm-ar', ['--version'])
      ? { [`AR_${name}`]: 'llvm-ar' }
      : {}),
  };
}

/** Builds the command line for a target, and returns the path of the program. */
export async function buildForTarget(target) {
  if (!hasTarget(target)) {
    const remedy = 'Install the standard library of the target, or name other `--targets`.';
    const label = `rustup target add ${target}`;
    await run('rustup', ['target', 'add', target], { label, quiet: true, remedy });
  }
  const args = ['build', '--locked', '--quiet', '--bin', 'hedgerow', '--release'];
  const remedy = 'The messages of the compiler are above. `--targets` can leave out a target.';
  const label = `build the command line for ${target}`;
  await run('cargo', [...args, '--target', target], {
    label,
    quiet: true,
    cwd: fromRoot(),
    env: targetEnv(target),
    remedy,
  });
  return path.join(targetDirectory(), target, 'release/hedgerow');
}
