// An edge Worker of a Fleet whose KV can fail: RULES is an entry point of the Worker `store`
// (faulty-kv.mjs). workers-rs calls the methods of the binding as `method.call(…)`. On an RPC stub,
// this would call a remote method named `call`. Therefore the stub's methods are wrapped in plain
// functions.
import BuiltWorker from './index.js';

const METHODS = ['get', 'getWithMetadata', 'put', 'delete', 'list'];
const asPlainFunctions = (stub) =>
  Object.fromEntries(METHODS.map((name) => [name, (...args) => stub[name](...args)]));

export default class extends BuiltWorker {
  constructor(ctx, env) {
    super(ctx, { ...env, ...(env.RULES && { RULES: asPlainFunctions(env.RULES) }) });
  }
}
