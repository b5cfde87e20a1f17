// The minimum of a filter that reads bodies: reads the body under a deadline, writes a log line,
// and forwards the request with the client's abort signal.
export default {
  async fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    const timer = setTimeout(() => {}, 10_000);
    const body = await request.arrayBuffer();
    clearTimeout(timer);
    const signal = AbortSignal.any([new AbortController().signal, request.signal]);
    console.log(
      JSON.stringify({
        time: new Date().toISOString(),
        id: crypto.randomUUID(),
        bytes: body.byteLength,
        pad: 'x'.repeat(900),
      }),
    );
    const init = {
      method: request.method,
      headers: new Headers(request.headers),
      redirect: 'manual',
      body,
      signal,
    };
    return fetch(new Request(env.ORIGIN + pathname + search, init));
  },
};
