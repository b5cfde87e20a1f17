// A small, deterministic stand-in for an LLM provider: OpenAI, Anthropic and Gemini shapes, streaming and not.
// `node scripts/demo-origin.mjs [--port 8788] [--delay 20]`, or `start({ port, delay })` from a test.
// Answers depend on the request alone: same bytes in, same bytes out.
import http from 'node:http';
import { pathToFileURL } from 'node:url';

const TIME = 1_767_225_600; // 2026-01-01T00:00:00Z: `created` in every answer
const WORDS = 'the hedge keeps what grows inside it and lets the birds through so that both sides stay green'.split(' ');

/** Starts the origin; resolves to `{ url, port, close }`. */
export async function start({ port = 0, delay = 20, onRequest = () => {} } = {}) {
  const server = http.createServer({ maxHeaderSize: 1 << 20 }, async (req, res) => {
    try {
      const body = await read(req);
      onRequest(req, body);
      await answer(req, body, res, { delay });
    } catch {
      res.destroy(); // the caller went away
    }
  });
  server.requestTimeout = 0;
  await new Promise((done, fail) => server.once('error', fail).listen(port, '127.0.0.1', done));
  const bound = server.address().port;
  return {
    port: bound,
    url: `http://127.0.0.1:${bound}`,
    close: () => new Promise((done) => (server.close(done), server.closeAllConnections())),
  };
}

/** Answers one request whose body was read already. */
export async function answer(req, bytes, res, { delay = 20 } = {}) {
  res.setHeader('x-demo-origin', '1');
  const url = new URL(req.url, 'http://demo.invalid');
  const route = ROUTES.find(([method, pattern]) => method === req.method && pattern.test(url.pathname));
  if (!route) return json(res, 404, { error: { message: `the demo origin has no ${req.method} ${url.pathname}`, type: 'invalid_request_error', param: null, code: 'not_found' } });
  const [, pattern, handle] = route;
  let reply;
  try {
    const body = /files$/.test(url.pathname) || req.method === 'GET' ? {} : JSON.parse(bytes.toString());
    reply = handle({ body, bytes, url, match: pattern.exec(url.pathname), id: stableId(bytes) });
  } catch (error) {
    return json(res, 400, { error: { message: `the demo origin cannot read this: ${error.message}`, type: 'invalid_request_error', param: null, code: null } });
  }
  if (!reply.events) return json(res, 200, reply);
  res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
  for (const event of reply.events) {
    if (res.destroyed) return;
    res.write(event);
    await new Promise((done) => setTimeout(done, delay));
  }
  res.end();
}

const ROUTES = [
  ['GET', /\/models$/, () => ({ object: 'list', data: [{ id: 'demo-large', object: 'model', created: TIME, owned_by: 'demo' }] })],
  ['POST', /\/chat\/completions$/, chat],
  ['POST', /\/responses$/, responses],
  ['POST', /\/completions$/, completions],
  ['POST', /\/embeddings$/, embeddings],
  ['POST', /\/files$/, ({ bytes, id }) => ({ id: `file-${id}`, object: 'file', bytes: bytes.length, created_at: TIME, filename: 'upload.jsonl', purpose: 'batch', status: 'processed' })],
  ['POST', /\/messages\/count_tokens$/, ({ bytes }) => ({ input_tokens: Math.ceil(bytes.length / 4) })],
  ['POST', /\/messages\/batches$/, ({ body, id }) => ({ id: `msgbatch_${id}`, type: 'message_batch', processing_status: 'in_progress', request_counts: { processing: body.requests?.length ?? 0, succeeded: 0, errored: 0, canceled: 0, expired: 0 }, created_at: '2026-01-01T00:00:00Z', expires_at: '2026-01-02T00:00:00Z', ended_at: null, cancel_initiated_at: null, archived_at: null, results_url: null })],
  ['POST', /\/messages$/, messages],
  ['POST', /\/batches$/, ({ body, id }) => ({ id: `batch_${id}`, object: 'batch', endpoint: body.endpoint, input_file_id: body.input_file_id, completion_window: '24h', status: 'validating', created_at: TIME })],
  ['POST', /\/models\/([^/:]+):generateContent$/, gemini],
  ['POST', /\/models\/([^/:]+):streamGenerateContent$/, gemini],
  ['POST', /\/models\/([^/:]+):embedContent$/, ({ bytes }) => ({ embedding: { values: vector(bytes, 8) } })],
  ['POST', /\/models\/([^/:]+):batchEmbedContents$/, ({ body }) => ({ embeddings: (body.requests ?? []).map((r) => ({ values: vector(JSON.stringify(r), 8) })) })],
];

// --- OpenAI ---------------------------------------------------------------------------------------------------

function chat({ body, id }) {
  const base = { id: `chatcmpl-${id}`, created: TIME, model: body.model ?? 'demo-large' };
  const call = forcedTool(body);
  const text = textFor(body.response_format?.json_schema?.schema, id);
  const choice = (index) => ({
    index,
    message: call ? { role: 'assistant', content: null, refusal: null, tool_calls: [toolCall(call, id)] } : { role: 'assistant', content: text, refusal: null },
    logprobs: body.logprobs ? { content: text.split(' ').map((token) => logprob(token, body.top_logprobs ?? 0)), refusal: null } : null,
    finish_reason: call ? 'tool_calls' : 'stop',
  });
  const usage = tokens(body, text);
  if (!body.stream) return { ...base, object: 'chat.completion', choices: range(body.n ?? 1).map(choice), usage };
  const chunk = (delta, finish_reason = null) => sse({ ...base, object: 'chat.completion.chunk', choices: [{ index: 0, delta, logprobs: null, finish_reason }] });
  return {
    events: [
      chunk({ role: 'assistant', content: call ? null : '' }),
      ...(call ? [chunk({ tool_calls: [{ index: 0, ...toolCall(call, id) }] })] : pieces(text).map((content) => chunk({ content }))),
      chunk({}, call ? 'tool_calls' : 'stop'),
      ...(body.stream_options?.include_usage ? [sse({ ...base, object: 'chat.completion.chunk', choices: [], usage })] : []),
      'data: [DONE]\n\n',
    ],
  };
}

function forcedTool({ tools, tool_choice }) {
  const named = tool_choice?.function?.name;
  return tools?.find((tool) => tool.function && (named ? tool.function.name === named : tool_choice === 'required'))?.function;
}

const toolCall = (fn, id) => ({ id: `call_${id}`, type: 'function', function: { name: fn.name, arguments: JSON.stringify(example(fn.parameters)) } });
const logprob = (token, top) => ({ token, logprob: -0.1, bytes: [...Buffer.from(token)], top_logprobs: range(top).map((i) => ({ token: i ? `${token}${i}` : token, logprob: -0.1 - i, bytes: null })) });

function completions({ body, id }) {
  const base = { id: `cmpl-${id}`, object: 'text_completion', created: TIME, model: body.model ?? 'demo-base' };
  const prompts = Array.isArray(body.prompt) && typeof body.prompt[0] !== 'number' ? body.prompt : [body.prompt];
  const text = textFor(null, id);
  const choices = prompts.flatMap((prompt, p) => range(body.n ?? 1).map((i) => ({
    text: body.echo && typeof prompt === 'string' ? prompt + text : text,
    index: p * (body.n ?? 1) + i,
    logprobs: body.logprobs == null ? null : { tokens: text.split(' '), token_logprobs: text.split(' ').map(() => -0.1), top_logprobs: null, text_offset: [] },
    finish_reason: 'stop',
  })));
  if (!body.stream) return { ...base, choices, usage: tokens(body, text) };
  return { events: [...pieces(text).map((piece) => sse({ ...base, choices: [{ text: piece, index: 0, logprobs: null, finish_reason: null }] })), 'data: [DONE]\n\n'] };
}

function responses({ body, id }) {
  const fn = body.tools?.find((tool) => tool.type === 'function' && (tool.name === body.tool_choice?.name || body.tool_choice === 'required'));
  const text = textFor(body.text?.format?.schema, id);
  const item = fn
    ? { id: `fc_${id}`, type: 'function_call', status: 'completed', call_id: `call_${id}`, name: fn.name, arguments: JSON.stringify(example(fn.parameters)) }
    : { id: `msg_${id}`, type: 'message', status: 'completed', role: 'assistant', content: [{ type: 'output_text', text, annotations: [], logprobs: [] }] };
  const response = { id: `resp_${id}`, object: 'response', created_at: TIME, status: 'completed', error: null, incomplete_details: null, instructions: body.instructions ?? null, metadata: {}, model: body.model, output: [item], parallel_tool_calls: true, temperature: 1, tool_choice: body.tool_choice ?? 'auto', tools: body.tools ?? [], top_p: 1, usage: { input_tokens: 8, input_tokens_details: { cached_tokens: 0 }, output_tokens: 8, output_tokens_details: { reasoning_tokens: 0 }, total_tokens: 16 } };
  if (!body.stream) return response;
  let sequence_number = 0;
  const event = (type, data) => `event: ${type}\n${sse({ type, sequence_number: sequence_number++, ...data })}`;
  const open = { ...response, status: 'in_progress', output: [] };
  const where = { item_id: item.id, output_index: 0, content_index: 0 };
  return {
    events: [
      event('response.created', { response: open }),
      event('response.output_item.added', { output_index: 0, item: { ...item, status: 'in_progress', ...(fn ? { arguments: '' } : { content: [] }) } }),
      ...(fn
        ? [event('response.function_call_arguments.delta', { item_id: item.id, output_index: 0, delta: item.arguments }), event('response.function_call_arguments.done', { item_id: item.id, output_index: 0, name: fn.name, arguments: item.arguments })]
        : [
            event('response.content_part.added', { ...where, part: { type: 'output_text', text: '', annotations: [], logprobs: [] } }),
            ...pieces(text).map((delta) => event('response.output_text.delta', { ...where, delta, logprobs: [] })),
            event('response.output_text.done', { ...where, text, logprobs: [] }),
            event('response.content_part.done', { ...where, part: item.content[0] }),
          ]),
      event('response.output_item.done', { output_index: 0, item }),
      event('response.completed', { response }),
    ],
  };
}

function embeddings({ body }) {
  const input = Array.isArray(body.input) && typeof body.input[0] !== 'number' ? body.input : [body.input];
  const encode = (values) => (body.encoding_format === 'base64' ? Buffer.from(new Float32Array(values).buffer).toString('base64') : values);
  return { object: 'list', model: body.model, data: input.map((text, index) => ({ object: 'embedding', index, embedding: encode(vector(JSON.stringify(text), body.dimensions ?? 8)) })), usage: { prompt_tokens: 8, total_tokens: 8 } };
}

// --- Anthropic ------------------------------------------------------------------------------------------------

function messages({ body, id }) {
  const choice = body.tool_choice ?? {};
  const tool = choice.type === 'any' ? body.tools?.[0] : choice.type === 'tool' ? body.tools?.find((t) => t.name === choice.name) : null;
  const text = textFor(body.output_config?.format?.schema ?? body.output_format?.schema, id);
  const block = tool ? { type: 'tool_use', id: `toolu_${id}`, name: tool.name, input: example(tool.input_schema) } : { type: 'text', text };
  const message = { id: `msg_${id}`, type: 'message', role: 'assistant', model: body.model, content: [block], stop_reason: tool ? 'tool_use' : 'end_turn', stop_sequence: null, usage: { input_tokens: 8, output_tokens: 8 } };
  if (!body.stream) return message;
  const event = (type, data = {}) => `event: ${type}\n${sse({ type, ...data })}`;
  const deltas = tool ? [{ type: 'input_json_delta', partial_json: JSON.stringify(block.input) }] : pieces(text).map((piece) => ({ type: 'text_delta', text: piece }));
  return {
    events: [
      event('message_start', { message: { ...message, content: [], stop_reason: null, usage: { input_tokens: 8, output_tokens: 1 } } }),
      event('content_block_start', { index: 0, content_block: tool ? { ...block, input: {} } : { type: 'text', text: '' } }),
      event('ping'),
      ...deltas.map((delta) => event('content_block_delta', { index: 0, delta })),
      event('content_block_stop', { index: 0 }),
      event('message_delta', { delta: { stop_reason: message.stop_reason, stop_sequence: null }, usage: { output_tokens: 8 } }),
      event('message_stop'),
    ],
  };
}

// --- Gemini ---------------------------------------------------------------------------------------------------

function gemini({ body, url, match, id }) {
  const config = body.generationConfig ?? {};
  const text = textFor(config.responseSchema ?? config.responseJsonSchema, id);
  const fn = body.toolConfig?.functionCallingConfig?.mode === 'ANY' ? body.tools?.[0]?.functionDeclarations?.[0] : null;
  const reply = (parts, finishReason) => ({
    candidates: range(config.candidateCount ?? 1).map((index) => ({ content: { parts, role: 'model' }, ...(finishReason && { finishReason }), index })),
    usageMetadata: { promptTokenCount: 8, candidatesTokenCount: 8, totalTokenCount: 16 },
    modelVersion: match[1],
    responseId: id,
  });
  const whole = reply([fn ? { functionCall: { name: fn.name, args: example(fn.parameters) } } : { text }], 'STOP');
  if (!url.pathname.endsWith(':streamGenerateContent')) return whole;
  const parts = fn ? [whole] : pieces(text).map((piece, i, all) => reply([{ text: piece }], i === all.length - 1 ? 'STOP' : undefined));
  if (url.searchParams.get('alt') === 'sse') return { events: parts.map(sse) };
  return { events: parts.map((part, i) => `${i ? ',\n' : '['}${JSON.stringify(part)}${i === parts.length - 1 ? ']' : ''}`) };
}

// --- Shared ---------------------------------------------------------------------------------------------------

/** A valid instance of a simple JSON schema: the smallest thing that has every required property. */
function example(schema = {}) {
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return example(schema.anyOf[0]);
  const type = String(Array.isArray(schema.type) ? schema.type[0] : (schema.type ?? (schema.properties ? 'object' : 'string'))).toLowerCase();
  if (type === 'object') return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, value]) => [name, example(value)]));
  if (type === 'array') return range(Math.max(1, schema.minItems ?? 1)).map(() => example(schema.items));
  if (type === 'number' || type === 'integer') return schema.minimum ?? 1;
  return { boolean: true, null: null }[type] ?? 'green';
}

/** An answer of twelve words; JSON when a schema was asked for. */
function textFor(schema, id) {
  if (schema) return JSON.stringify(example(schema));
  const from = Number.parseInt(id.slice(0, 4), 16);
  return range(12).map((i) => WORDS[(from + i) % WORDS.length]).join(' ');
}

const pieces = (text) => text.match(/\S+\s*/g) ?? [text];
const range = (n) => Array.from({ length: Math.min(Number(n) || 0, 64) }, (_, i) => i);
const sse = (data) => `data: ${JSON.stringify(data)}\n\n`;
const tokens = (body, text) => ({ prompt_tokens: 8, completion_tokens: pieces(text).length, total_tokens: 8 + pieces(text).length });
const vector = (seed, n) => range(n).map((i) => Number(((hash(seed, i) % 2000) / 1000 - 1).toFixed(3)));
const stableId = (bytes) => [0, 1, 2].map((i) => hash(bytes, i).toString(16).padStart(8, '0')).join('');

/** FNV-1a: enough to tell bodies apart. */
function hash(bytes, seed) {
  let h = 0x811c9dc5 ^ seed;
  for (const byte of Buffer.from(bytes)) h = Math.imul(h ^ byte, 0x01000193);
  return h >>> 0;
}

function json(res, status, value) {
  res.writeHead(status, { 'content-type': 'application/json' });
  res.end(JSON.stringify(value));
}

async function read(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return Buffer.concat(chunks);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const option = (name, fallback) => Number(process.argv[process.argv.indexOf(`--${name}`) + 1] || fallback);
  const given = (name) => process.argv.includes(`--${name}`);
  const origin = await start({ port: given('port') ? option('port') : 8788, delay: given('delay') ? option('delay') : 20 });
  console.log(`demo origin on ${origin.url}`);
}
