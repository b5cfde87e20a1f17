// node benches/floods.mjs: runs tests/edge/floods.spec.ts at full size in workerd, which takes some
// minutes. The spec sends 100,000 made-up keys and 100,000 tokens to a deployment that stores
// 100,000 indicators, the shipped limit. Build first: `npm run build -- worker`.
import { endChildrenOnSignal, fromRoot, main, run, toolEnv } from '../scripts/lib/proc.mjs';

const SPEC = ['--project', 'edge', 'tests/edge/floods.spec.ts', '--testNamePattern', 'campaigns'];

endChildrenOnSignal();
await main(() =>
  run(fromRoot('node_modules/.bin/vitest'), ['run', ...SPEC], {
    env: toolEnv({ HEDGEROW_FLOOD: '100000' }),
  }),
);
