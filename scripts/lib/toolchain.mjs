// The pinned nightly toolchain, which builds Wasm with unwinding and runs the fuzz targets. The
// stable toolchain is in rust-toolchain.toml.
import { existsSync } from 'node:fs';
import { fromRoot, toolEnv, tryCapture } from './proc.mjs';

/** The nightly for Wasm and fuzzing. benches/size.json was recorded with it. */
export const NIGHTLY = 'nightly-2026-05-20';
export const WASM_TARGET = 'wasm32-unknown-unknown';

const INSTALL_NIGHTLY = [
  'toolchain',
  'install',
  NIGHTLY,
  '--profile',
  'minimal',
  '--component',
  'rust-src',
  '--target',
  WASM_TARGET,
];

/** How to install the nightly: arguments of rustup, and a command for the user. */
export const nightlyInstall = {
  args: INSTALL_NIGHTLY,
  remedy: `rustup ${INSTALL_NIGHTLY.join(' ')}`,
};

/**
 * Returns whether the nightly is installed, with the source of the standard library and the Wasm
 * target.
 */
export function hasNightly() {
  // Prevents rustup from installing the toolchain because of this query.
  const env = toolEnv({ RUSTUP_AUTO_INSTALL: '0' });
  const sysroot = tryCapture('rustc', [`+${NIGHTLY}`, '--print', 'sysroot'], { env });
  if (!sysroot) return false;
  const parts = ['src/rust/library/std', `${WASM_TARGET}/lib`];
  return parts.every((part) => existsSync(`${sysroot}/lib/rustlib/${part}`));
}

/** Returns whether the stable toolchain has a target. */
export function hasTarget(target) {
  const directory = tryCapture('rustc', ['--target', target, '--print', 'target-libdir']);
  return directory !== null && existsSync(directory);
}

/** Returns whether the stable toolchain has the Wasm target. */
export const hasWasmTarget = () => hasTarget(WASM_TARGET);

/**
 * Returns the arguments and the environment with which cargo builds Wasm: with unwinding if the
 * nightly is installed, else with the stable toolchain.
 */
export function wasmCargo() {
  const simd = [process.env.RUSTFLAGS, '-C target-feature=+simd128'].filter(Boolean).join(' ');
  if (!hasNightly()) return { toolchain: [], flags: [], env: { RUSTFLAGS: simd } };
  return {
    toolchain: [`+${NIGHTLY}`],
    flags: ['-Z', 'build-std=std,panic_unwind'],
    // The flags are in the same order as in worker-build, so that the Worker and the Wasm module of
    // the console share compiled dependencies.
    env: { RUSTFLAGS: `${simd} -Cpanic=unwind`, WASM_BINDGEN_USE_JS_SYS: '1' },
  };
}

/** A directory for PATH. It makes worker-build use the pinned nightly if it asks for `nightly`. */
export const TOOLCHAIN_SHIM = fromRoot('scripts/toolchain-shim');
