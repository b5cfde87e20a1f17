// npm run setup: every tool that start, test and bench need.
import { endChildrenOnSignal, main } from './lib/proc.mjs';
import { nightly, setup } from './lib/setup.mjs';

endChildrenOnSignal();
await main(async () => {
  await setup({ tests: true });
  const { present, unwind, remedy } = nightly();
  console.log(unwind ? 'Ready. Panics are caught one request at a time (nightly, build-std).' : `Ready, with the stable build: a panic fails the requests in flight in its isolate.\n  For one-request panics${present ? '' : ' and fuzzing'}: ${remedy}`);
});
