// npm run build, and wrangler's [build] command: set-up, then the named targets (the Worker by default).
// Does nothing if nothing has changed, so `npm start` and `wrangler dev` may both call it.
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
  if (unknown) throw new Failure(`unknown target ${unknown}: expected one of ${Object.keys(TARGETS).join(', ')}`);
  await setup();
  for (const name of targets.length ? targets : ['worker']) await TARGETS[name]();
});
