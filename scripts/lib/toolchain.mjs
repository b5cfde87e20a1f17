// Toolchains: the stable one of rust-toolchain.toml, and a pinned nightly for `panic = "unwind"` in Wasm and for fuzzing.
import { existsSync } from 'node:fs';
import { fromRoot, toolEnv, tryCapture } from './proc.mjs';

/** The nightly that Wasm size and fuzzing are recorded with. */
export const NIGHTLY = 'nightly-2026-05-20';
export const WASM_TARGET = 'wasm32-unknown-unknown';

const INSTALL_NIGHTLY = [
  'toolchain', 'install', NIGHTLY, '--profile', 'minimal', '--component', 'rust-src', '--target', WASM_TARGET,
];

/** Arguments of `rustup` that install the nightly, and the same as a command to type. */
export const nightlyInstall = { args: INSTALL_NIGHTLY, remedy: `rustup ${INSTALL_NIGHTLY.join(' ')}` };

/** Whether the pinned nightly is installed with the standard library's source and the Wasm target. */
export function hasNightly() {
  // rustup must not install a toolchain because somebody asks about it.
  const env = toolEnv({ RUSTUP_AUTO_INSTALL: '0' });
  const sysroot = tryCapture('rustc', [`+${NIGHTLY}`, '--print', 'sysroot'], { env });
  if (!sysroot) return false;
  const parts = ['src/rust/library/std', `${WASM_TARGET}/lib`];
  return parts.every((part) => existsSync(`${sysroot}/lib/rustlib/${part}`));
}

/** Whether the stable toolchain has the Wasm target. */
export function hasWasmTarget() {
  const directory = tryCapture('rustc', ['--target', WASM_TARGET, '--print', 'target-libdir']);
  return directory !== null && existsSync(directory);
}

/** Arguments and environment with which cargo builds Wasm: with unwinding on the nightly, else stable. */
export function wasmCargo() {
  const simd = [process.env.RUSTFLAGS, '-C target-feature=+simd128'].filter(Boolean).join(' ');
  if (!hasNightly()) return { toolchain: [], flags: [], env: { RUSTFLAGS: simd } };
  return {
    toolchain: [`+${NIGHTLY}`],
    flags: ['-Z', 'build-std=std,panic_unwind'],
    // The order is that of worker-build: with the same flags both Wasm modules share their dependencies.
    env: { RUSTFLAGS: `${simd} -Cpanic=unwind`, WASM_BINDGEN_USE_JS_SYS: '1' },
  };
}

/** A directory for PATH in which worker-build finds the pinned nightly under the name `nightly`. */
export const TOOLCHAIN_SHIM = fromRoot('scripts/toolchain-shim');
