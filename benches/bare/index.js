// The least that a Worker in JavaScript does: passes every request to the origin, and its answer back.
export default {
  fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    return fetch(new Request(env.ORIGIN + pathname + search, request));
  },
};
