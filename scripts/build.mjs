// npm run build, and wrangler's [build] command: set-up, then the Worker (default), `panic`, `playground` or `console`.
// Costs next to nothing when nothing changed, so `npm start` and `wrangler dev` may both call it.
import { buildConsole, buildPlayground, buildWorker, PLANTED_PANIC } from './lib/build.mjs';
import { endChildrenOnSignal, Failure, main } from './lib/proc.mjs';
import { setup } from './lib/setup.mjs';

const TARGETS = {
  worker: () => buildWorker(),
  panic: () => buildWorker(PLANTED_PANIC),
  playground: () => buildPlayground(),
  console: () => buildConsole(),
};

endChildrenOnSignal();
await main(async () => {
  const asked = process.argv.slice(2);
  const unknown = asked.find((name) => !TARGETS[name]);
  if (unknown) throw new Failure(`unknown target ${unknown}: one of ${Object.keys(TARGETS).join(', ')}`);
  await setup();
  for (const name of asked.length ? asked : ['worker']) await TARGETS[name]();
});
