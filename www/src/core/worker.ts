// The core, in a thread of its own: rules are checked, requests scored and explained, files replayed. What comes in
// stays here.
import init, { check, diff, fields, Filter } from '../../../build/wasm/hedgerow_wasm.js';
import wasm from '../../../build/wasm/hedgerow_wasm_bg.wasm?url';
import type { Answer, Call } from './core.ts';

const ready = init({ module_or_path: wasm });
const filters = new Map<string, Filter>();

/** Loading a bundle takes some ten milliseconds, so the last ones stay. */
function filterOf(bundle: string): Filter {
  let filter = filters.get(bundle);
  if (!filter) {
    filter = new Filter(bundle);
    for (const [old, own] of filters) {
      if (filters.size < 3) break;
      filters.delete(old);
      own.free();
    }
    filters.set(bundle, filter);
  }
  return filter;
}

const now = () => Date.now() / 1000;

function carryOut(call: Call): unknown {
  switch (call.what) {
    case 'check':
      return JSON.parse(check(JSON.stringify(call.files)));
    case 'diff':
      return JSON.parse(diff(call.from, call.to));
    case 'fields':
      return JSON.parse(fields());
    case 'digest':
      return filterOf(call.bundle).digest();
    case 'score':
      return JSON.parse(filterOf(call.bundle).score(call.request, now()));
    case 'explain':
      return JSON.parse(filterOf(call.bundle).explain(call.request, now()));
    case 'scores': {
      const filter = filterOf(call.bundle);
      return call.requests.map((request) => {
        try {
          return JSON.parse(filter.score(request, now()));
        } catch (error) {
          return { error: message(error) };
        }
      });
    }
  }
}

const message = (error: unknown) => (error instanceof Error ? error.message : String(error));

addEventListener('message', async ({ data }: MessageEvent<{ id: number; call: Call }>) => {
  const { id, call } = data;
  let answer: Answer;
  try {
    await ready;
    answer = { id, value: carryOut(call) };
  } catch (error) {
    answer = { id, problem: message(error) };
  }
  postMessage(answer);
});
