// npm run setup: installs every tool that start, test and bench need.
import { endChildrenOnSignal, main } from './lib/proc.mjs';
import { setup } from './lib/setup.mjs';
import { hasNightly, nightlyInstall } from './lib/toolchain.mjs';

endChildrenOnSignal();
await main(async () => {
  await setup({ tests: true });
  if (hasNightly()) return console.log('Ready. A panic fails only the request that caused it.');
  console.log(`Ready. A panic fails every request in flight in its isolate.\n  To fail only one: ${nightlyInstall.remedy}`);
});
