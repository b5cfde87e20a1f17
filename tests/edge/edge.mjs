// An edge Worker of a Fleet whose KV has switches: RULES is an entry point of `store` (store.mjs) behind plain functions,
// because worker-rs takes the methods off the binding and `call`s them, which a stub takes for a method of that name.
import Built from './index.js';

const plain = (stub) => Object.fromEntries(['get', 'getWithMetadata', 'put', 'delete', 'list'].map((name) => [name, (...args) => stub[name](...args)]));

export default class extends Built {
  constructor(ctx, env) {
    super(ctx, { ...env, ...(env.RULES && { RULES: plain(env.RULES) }) });
  }
}
