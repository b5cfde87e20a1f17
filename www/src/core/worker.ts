// Runs the core in a Web Worker. The worker sends its inputs nowhere outside of the page.
import init, { check, diff, fields, Filter } from '../../../build/wasm/hedgerow_wasm.js';
import wasm from '../../../build/wasm/hedgerow_wasm_bg.wasm?url';
import type { WorkerRequest, WorkerResponse } from './core.ts';

const MAX_FILTERS = 3;

const ready = init({ module_or_path: wasm });
const filters = new Map<string, Filter>();

/**
 * Returns the filter of a bundle. Keeps the last few filters, because loading a filter takes about
 * 10 ms.
 */
function filterOf(bundle: string): Filter {
  let filter = filters.get(bundle);
  if (!filter) {
    filter = new Filter(bundle);
    for (const [oldBundle, oldFilter] of filters) {
      if (filters.size < MAX_FILTERS) break;
      filters.delete(oldBundle);
      oldFilter.free();
    }
    filters.set(bundle, filter);
  }
  return filter;
}

const now = () => Date.now() / 1000;

function handle(request: WorkerRequest): unknown {
  switch (request.type) {
    case 'check':
      return JSON.parse(check(JSON.stringify(request.files)));
    case 'diff':
      return JSON.parse(diff(request.from, request.to));
    case 'fields':
      return JSON.parse(fields());
    case 'digest':
      return filterOf(request.bundle).digest();
    case 'score':
      return JSON.parse(filterOf(request.bundle).score(request.request, now()));
    case 'explain':
      return JSON.parse(filterOf(request.bundle).explain(request.request, now()));
    case 'passages':
      return JSON.parse(filterOf(request.bundle).passages(request.request, now()));
    case 'scoreAll': {
      const filter = filterOf(request.bundle);
      return request.requests.map((one) => {
        try {
          return JSON.parse(filter.score(one, now()));
        } catch (error) {
          return { error: message(error) };
        }
      });
    }
  }
}

const message = (error: unknown) => (error instanceof Error ? error.message : String(error));

addEventListener(
  'message',
  async ({ data }: MessageEvent<{ id: number; request: WorkerRequest }>) => {
    const { id, request } = data;
    let response: WorkerResponse;
    try {
      await ready;
      response = { id, value: handle(request) };
    } catch (error) {
      response = { id, problem: message(error) };
    }
    postMessage(response);
  },
);
