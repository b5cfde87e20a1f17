// An edge Worker of a Fleet whose KV can fail: RULES is an entry point of the Worker `store`
// (faulty-kv.mjs). workers-rs reads the methods of the binding and calls them with `call`, which an
// RPC stub would treat as the name of a remote method. Plain functions avoid that.
import BuiltWorker from './index.js';

const METHODS = ['get', 'getWithMetadata', 'put', 'delete', 'list'];
const asPlainFunctions = (stub) =>
  Object.fromEntries(METHODS.map((name) => [name, (...args) => stub[name](...args)]));

export default class extends BuiltWorker {
  constructor(ctx, env) {
    super(ctx, { ...env, ...(env.RULES && { RULES: asPlainFunctions(env.RULES) }) });
  }
}
