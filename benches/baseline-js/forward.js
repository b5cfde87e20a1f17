// The minimum of a Worker in JavaScript: forwards every request to the origin and returns its
// answer.
export default {
  fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    return fetch(new Request(env.ORIGIN + pathname + search, request));
  },
};
