// npm run setup: installs the tools of `npm start`, `npm test` and `npm run bench`.
import { endChildrenOnSignal, main } from './lib/proc.mjs';
import { setup } from './lib/setup.mjs';
import { hasNightly, nightlyInstall } from './lib/toolchain.mjs';

endChildrenOnSignal();
await main(async () => {
  await setup({ tests: true });
  if (hasNightly()) return console.log('Ready. A panic fails only the request that caused it.');
  console.log('Ready. A panic fails every request in flight in its isolate.');
  console.log(`  For a build in which it fails only one: ${nightlyInstall.remedy}`);
});
