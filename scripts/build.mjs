// npm run build, and wrangler's [build] command: installs tools, then builds the named targets (by
// default the Worker). Does nothing if no input has changed.
//   node scripts/build.mjs [worker] [faults] [wasm] [console]
import { buildConsole, buildFaultInjection, buildWasm, buildWorker } from './lib/build.mjs';
import { endChildrenOnSignal, Failure, main } from './lib/proc.mjs';
import { setup } from './lib/setup.mjs';

const TARGETS = {
  worker: () => buildWorker(),
  faults: () => buildFaultInjection(),
  wasm: () => buildWasm(),
  console: () => buildConsole(),
};

endChildrenOnSignal();
await main(async () => {
  const targets = process.argv.slice(2);
  const unknown = targets.find((name) => !TARGETS[name]);
  const expected = Object.keys(TARGETS).join(', ');
  if (unknown) throw new Failure(`unknown target ${unknown}: expected one of ${expected}`);
  await setup();
  for (const name of targets.length ? targets : ['worker']) await TARGETS[name]();
});
