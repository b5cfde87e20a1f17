// A small fake LLM provider that answers like OpenAI, Anthropic and Gemini, with and without
// streaming. Equal requests get equal answers.
//   node scripts/demo-origin.mjs [--port 8788] [--delay 20]   (--delay: ms between two events)
import http from 'node:http';
import { pathToFileURL } from 'node:url';

/** The time 2026-01-01T00:00:00Z in seconds since the epoch: `created` in every answer. */
const TIME = 1_767_225_600;
const SENTENCE =
  'the hedge keeps what grows inside it and lets the birds through so that both sides stay green';
const WORDS = SENTENCE.split(' ');

/** Starts the origin, with `delay` ms between two events of a stream. Returns its address. */
export async function start({ port = 0, delay = 20, onRequest = () => {} } = {}) {
  const server = http.createServer({ maxHeaderSize: 1 << 20 }, async (req, res) => {
    try {
      const body = await read(req);
      onRequest(req, body);
      await answer(req, body, res, { delay });
    } catch {
      // An error here means that the client has disconnected.
      res.destroy();
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

/** Answers a request with the body `bytes`, with `delay` ms between two events of a stream. */
export async function answer(req, bytes, res, { delay = 20 } = {}) {
  res.setHeader('x-demo-origin', '1');
  const url = new URL(req.url, 'http://demo.invalid');
  const route = ROUTES.find(
    ([method, pattern]) => method === req.method && pattern.test(url.pathname),
  );
  if (!route) {
    const message = `the demo origin has no ${req.method} ${url.pathname}`;
    return json(res, 404, requestError(message, 'not_found'));
  }
  const [, pattern, handle] = route;
  let reply;
  try {
    const hasJson = req.method !== 'GET' && !/files$/.test(url.pathname);
    const body = hasJson ? JSON.parse(bytes.toString()) : {};
    reply = handle({ body, bytes, url, match: pattern.exec(url.pathname), id: stableId(bytes) });
  } catch (error) {
    return json(res, 400, requestError(`the demo origin cannot read this body: ${error.message}`));
  }
  if (!reply.events) return json(res, 200, reply);
  res.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
  });
  for (const event of reply.events) {
    if (res.destroyed) return;
    res.write(event);
    await new Promise((done) => setTimeout(done, delay));
  }
  res.end();
}

/**
 * Method, path pattern and handler of each route. A handler receives the parsed body, the bytes of
 * the body, the URL, the match of the path pattern, and an id that is derived from the bytes. It
 * returns an answer or `{ events }`.
 */
const ROUTES = [
  ['GET', /\/models$/, models],
  ['POST', /\/chat\/completions$/, chat],
  ['POST', /\/responses$/, responses],
  ['POST', /\/completions$/, completions],
  ['POST', /\/embeddings$/, embeddings],
  ['POST', /\/files$/, file],
  ['POST', /\/messages\/count_tokens$/, countTokens],
  ['POST', /\/messages\/batches$/, messageBatch],
  ['POST', /\/messages$/, messages],
  ['POST', /\/batches$/, batch],
  ['POST', /\/models\/([^/:]+):generateContent$/, gemini],
  ['POST', /\/models\/([^/:]+):streamGenerateContent$/, gemini],
  ['POST', /\/models\/([^/:]+):embedContent$/, embedContent],
  ['POST', /\/models\/([^/:]+):batchEmbedContents$/, batchEmbedContents],
];

// --- OpenAI ---

function models() {
  const model = { id: 'demo-large', object: 'model', created: TIME, owned_by: 'demo' };
  return { object: 'list', data: [model] };
}

function chat({ body, id }) {
  const base = { id: `chatcmpl-${id}`, created: TIME, model: body.model ?? 'demo-large' };
  const tool = forcedTool(body);
  const text = textFor(body.response_format?.json_schema?.schema, id);
  const usage = tokens(text);
  if (body.stream) return { events: chatEvents({ body, base, tool, text, usage, id }) };
  const answer = { role: 'assistant', content: tool ? null : text, refusal: null };
  const message = tool ? { ...answer, tool_calls: [toolCall(tool, id)] } : answer;
  const logprobs = () => ({
    content: text.split(' ').map((token) => logprob(token, body.top_logprobs ?? 0)),
    refusal: null,
  });
  const choice = (index) => ({
    index,
    message,
    logprobs: body.logprobs ? logprobs() : null,
    finish_reason: tool ? 'tool_calls' : 'stop',
  });
  return { ...base, object: 'chat.completion', choices: range(body.n ?? 1).map(choice), usage };
}

function chatEvents({ body, base, tool, text, usage, id }) {
  const event = (rest) => sse({ ...base, object: 'chat.completion.chunk', ...rest });
  const chunk = (delta, finish_reason = null) =>
    event({ choices: [{ index: 0, delta, logprobs: null, finish_reason }] });
  const deltas = tool
    ? [{ tool_calls: [{ index: 0, ...toolCall(tool, id) }] }]
    : pieces(text).map((content) => ({ content }));
  return [
    chunk({ role: 'assistant', content: tool ? null : '' }),
    ...deltas.map((delta) => chunk(delta)),
    chunk({}, tool ? 'tool_calls' : 'stop'),
    ...(body.stream_options?.include_usage ? [event({ choices: [], usage })] : []),
    'data: [DONE]\n\n',
  ];
}

/** Returns the function that `tool_choice` forces the model to call, if any. */
function forcedTool({ tools, tool_choice }) {
  const named = tool_choice?.function?.name;
  const isForced = ({ name }) => (named ? name === named : tool_choice === 'required');
  return tools?.find((tool) => tool.function && isForced(tool.function))?.function;
}

const toolCall = ({ name, parameters }, id) => ({
  id: `call_${id}`,
  type: 'function',
  function: { name, arguments: JSON.stringify(example(parameters)) },
});

const logprob = (token, top) => ({
  token,
  logprob: -0.1,
  bytes: [...Buffer.from(token)],
  top_logprobs: range(top).map((i) => ({
    token: i ? `${token}${i}` : token,
    logprob: -0.1 - i,
    bytes: null,
  })),
});

function completions({ body, id }) {
  const model = body.model ?? 'demo-base';
  const base = { id: `cmpl-${id}`, object: 'text_completion', created: TIME, model };
  const text = textFor(null, id);
  if (body.stream) {
    const chunk = (piece) =>
      sse({ ...base, choices: [{ text: piece, index: 0, logprobs: null, finish_reason: null }] });
    return { events: [...pieces(text).map(chunk), 'data: [DONE]\n\n'] };
  }
  const logprobs = {
    tokens: text.split(' '),
    token_logprobs: text.split(' ').map(() => -0.1),
    top_logprobs: null,
    text_offset: [],
  };
  const count = body.n ?? 1;
  const choices = inputs(body.prompt).flatMap((prompt, p) =>
    range(count).map((i) => ({
      text: body.echo && typeof prompt === 'string' ? prompt + text : text,
      index: p * count + i,
      logprobs: body.logprobs == null ? null : logprobs,
      finish_reason: 'stop',
    })),
  );
  return { ...base, choices, usage: tokens(text) };
}

function responses({ body, id }) {
  const choice = body.tool_choice;
  const tool = body.tools?.find(
    ({ type, name }) => type === 'function' && (name === choice?.name || choice === 'required'),
  );
  const text = textFor(body.text?.format?.schema, id);
  const item = tool ? functionCall(tool, id) : outputMessage(text, id);
  const response = responseObject(body, item, id);
  return body.stream ? { events: responseEvents(response, item, text) } : response;
}

const functionCall = ({ name, parameters }, id) => ({
  id: `fc_${id}`,
  type: 'function_call',
  status: 'completed',
  call_id: `call_${id}`,
  name,
  arguments: JSON.stringify(example(parameters)),
});

const outputMessage = (text, id) => ({
  id: `msg_${id}`,
  type: 'message',
  status: 'completed',
  role: 'assistant',
  content: [{ type: 'output_text', text, annotations: [], logprobs: [] }],
});

const responseObject = (body, item, id) => ({
  id: `resp_${id}`,
  object: 'response',
  created_at: TIME,
  status: 'completed',
  error: null,
  incomplete_details: null,
  instructions: body.instructions ?? null,
  metadata: {},
  model: body.model,
  output: [item],
  parallel_tool_calls: true,
  temperature: 1,
  tool_choice: body.tool_choice ?? 'auto',
  tools: body.tools ?? [],
  top_p: 1,
  usage: {
    input_tokens: 8,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 8,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 16,
  },
});

function responseEvents(response, item, text) {
  let sequence_number = 0;
  const event = (type, data) =>
    `event: ${type}\n${sse({ type, sequence_number: sequence_number++, ...data })}`;
  const isCall = item.type === 'function_call';
  const added = {
    ...item,
    status: 'in_progress',
    ...(isCall ? { arguments: '' } : { content: [] }),
  };
  return [
    event('response.created', { response: { ...response, status: 'in_progress', output: [] } }),
    event('response.output_item.added', { output_index: 0, item: added }),
    ...(isCall ? callEvents(event, item) : textEvents(event, item, text)),
    event('response.output_item.done', { output_index: 0, item }),
    event('response.completed', { response }),
  ];
}

function callEvents(event, item) {
  const at = { item_id: item.id, output_index: 0 };
  return [
    event('response.function_call_arguments.delta', { ...at, delta: item.arguments }),
    event('response.function_call_arguments.done', {
      ...at,
      name: item.name,
      arguments: item.arguments,
    }),
  ];
}

function textEvents(event, item, text) {
  const at = { item_id: item.id, output_index: 0, content_index: 0 };
  const [part] = item.content;
  return [
    event('response.content_part.added', { ...at, part: { ...part, text: '' } }),
    ...pieces(text).map((delta) =>
      event('response.output_text.delta', { ...at, delta, logprobs: [] }),
    ),
    event('response.output_text.done', { ...at, text, logprobs: [] }),
    event('response.content_part.done', { ...at, part }),
  ];
}

function embeddings({ body }) {
  const base64 = (values) => Buffer.from(new Float32Array(values).buffer).toString('base64');
  const encode = body.encoding_format === 'base64' ? base64 : (values) => values;
  const data = inputs(body.input).map((text, index) => ({
    object: 'embedding',
    index,
    embedding: encode(vector(JSON.stringify(text), body.dimensions ?? 8)),
  }));
  const usage = { prompt_tokens: 8, total_tokens: 8 };
  return { object: 'list', model: body.model, data, usage };
}

/**
 * Returns the inputs of a request as a list. `value` is a list of inputs, or a single input as text
 * or as an array of token numbers.
 */
const inputs = (value) => (Array.isArray(value) && typeof value[0] !== 'number' ? value : [value]);

function file({ bytes, id }) {
  return {
    id: `file-${id}`,
    object: 'file',
    bytes: bytes.length,
    created_at: TIME,
    filename: 'upload.jsonl',
    purpose: 'batch',
    status: 'processed',
  };
}

function batch({ body, id }) {
  return {
    id: `batch_${id}`,
    object: 'batch',
    endpoint: body.endpoint,
    input_file_id: body.input_file_id,
    completion_window: '24h',
    status: 'validating',
    created_at: TIME,
  };
}

// --- Anthropic ---

function messages({ body, id }) {
  const tool = chosenTool(body);
  const text = textFor(body.output_config?.format?.schema ?? body.output_format?.schema, id);
  const block = tool
    ? { type: 'tool_use', id: `toolu_${id}`, name: tool.name, input: example(tool.input_schema) }
    : { type: 'text', text };
  const message = {
    id: `msg_${id}`,
    type: 'message',
    role: 'assistant',
    model: body.model,
    content: [block],
    stop_reason: tool ? 'tool_use' : 'end_turn',
    stop_sequence: null,
    usage: { input_tokens: 8, output_tokens: 8 },
  };
  return body.stream ? { events: messageEvents(message, block) } : message;
}

/** Returns the tool that `tool_choice` forces the model to use, if any. */
function chosenTool({ tools, tool_choice: choice }) {
  if (choice?.type === 'any') return tools?.[0];
  return choice?.type === 'tool' ? tools?.find(({ name }) => name === choice.name) : null;
}

function messageEvents(message, block) {
  const event = (type, data = {}) => `event: ${type}\n${sse({ type, ...data })}`;
  const isTool = block.type === 'tool_use';
  const usage = { input_tokens: 8, output_tokens: 1 };
  const { stop_reason } = message;
  const empty = isTool ? { ...block, input: {} } : { ...block, text: '' };
  const deltas = isTool
    ? [{ type: 'input_json_delta', partial_json: JSON.stringify(block.input) }]
    : pieces(block.text).map((text) => ({ type: 'text_delta', text }));
  return [
    event('message_start', { message: { ...message, content: [], stop_reason: null, usage } }),
    event('content_block_start', { index: 0, content_block: empty }),
    event('ping'),
    ...deltas.map((delta) => event('content_block_delta', { index: 0, delta })),
    event('content_block_stop', { index: 0 }),
    event('message_delta', {
      delta: { stop_reason, stop_sequence: null },
      usage: { output_tokens: 8 },
    }),
    event('message_stop'),
  ];
}

function countTokens({ bytes }) {
  return { input_tokens: Math.ceil(bytes.length / 4) };
}

function messageBatch({ body, id }) {
  return {
    id: `msgbatch_${id}`,
    type: 'message_batch',
    processing_status: 'in_progress',
    request_counts: {
      processing: body.requests?.length ?? 0,
      succeeded: 0,
      errored: 0,
      canceled: 0,
      expired: 0,
    },
    created_at: '2026-01-01T00:00:00Z',
    expires_at: '2026-01-02T00:00:00Z',
    ended_at: null,
    cancel_initiated_at: null,
    archived_at: null,
    results_url: null,
  };
}

// --- Gemini ---

function gemini({ body, url, match, id }) {
  const config = body.generationConfig ?? {};
  const text = textFor(config.responseSchema ?? config.responseJsonSchema, id);
  const mustCall = body.toolConfig?.functionCallingConfig?.mode === 'ANY';
  const tool = mustCall ? body.tools?.[0]?.functionDeclarations?.[0] : null;
  const candidate = (part, finishReason) => (index) => ({
    content: { parts: [part], role: 'model' },
    ...(finishReason && { finishReason }),
    index,
  });
  const reply = (part, finishReason) => ({
    candidates: range(config.candidateCount ?? 1).map(candidate(part, finishReason)),
    usageMetadata: { promptTokenCount: 8, candidatesTokenCount: 8, totalTokenCount: 16 },
    modelVersion: match[1],
    responseId: id,
  });
  const call = tool && { name: tool.name, args: example(tool.parameters) };
  const whole = reply(call ? { functionCall: call } : { text }, 'STOP');
  if (!url.pathname.endsWith(':streamGenerateContent')) return whole;
  const texts = pieces(text);
  const finish = (index) => (index === texts.length - 1 ? 'STOP' : undefined);
  const replies = call ? [whole] : texts.map((piece, i) => reply({ text: piece }, finish(i)));
  const isSse = url.searchParams.get('alt') === 'sse';
  return { events: isSse ? replies.map(sse) : jsonArray(replies) };
}

/** Returns the text of a JSON array in pieces, one for each element. */
const jsonArray = (values) =>
  values.map((value, index) => {
    const start = index ? ',\n' : '[';
    const end = index === values.length - 1 ? ']' : '';
    return start + JSON.stringify(value) + end;
  });

function embedContent({ bytes }) {
  return { embedding: { values: vector(bytes, 8) } };
}

function batchEmbedContents({ body }) {
  return {
    embeddings: (body.requests ?? []).map((request) => ({
      values: vector(JSON.stringify(request), 8),
    })),
  };
}

// --- Shared ---

/** Returns a small value that conforms to a simple JSON schema. Objects have every property. */
function example(schema = {}) {
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return example(schema.anyOf[0]);
  const type = typeOf(schema);
  if (type === 'object') {
    const properties = Object.entries(schema.properties ?? {});
    return Object.fromEntries(properties.map(([name, value]) => [name, example(value)]));
  }
  if (type === 'array')
    return range(Math.max(1, schema.minItems ?? 1)).map(() => example(schema.items));
  if (type === 'number' || type === 'integer') return schema.minimum ?? 1;
  return { boolean: true, null: null }[type] ?? 'green';
}

/** Returns the first type of a schema in lower case, because Gemini's types are in upper case. */
function typeOf({ type, properties }) {
  const first = Array.isArray(type) ? type[0] : type;
  return String(first ?? (properties ? 'object' : 'string')).toLowerCase();
}

/** Returns an answer of twelve words, or JSON if the request has a schema. */
function textFor(schema, id) {
  if (schema) return JSON.stringify(example(schema));
  const from = Number.parseInt(id.slice(0, 4), 16);
  return range(12)
    .map((i) => WORDS[(from + i) % WORDS.length])
    .join(' ');
}

const pieces = (text) => text.match(/\S+\s*/g) ?? [text];
const range = (n) => Array.from({ length: Math.min(Number(n) || 0, 64) }, (_, i) => i);
const sse = (data) => `data: ${JSON.stringify(data)}\n\n`;

function tokens(text) {
  const completion_tokens = pieces(text).length;
  return { prompt_tokens: 8, completion_tokens, total_tokens: 8 + completion_tokens };
}

/** Returns `n` numbers from -1 to 1. */
const vector = (seed, n) => {
  const number = (i) => (hash(seed, i) % 2000) / 1000 - 1;
  return range(n).map((i) => Number(number(i).toFixed(3)));
};

const stableId = (bytes) =>
  [0, 1, 2].map((i) => hash(bytes, i).toString(16).padStart(8, '0')).join('');

/** Returns the FNV-1a hash of bytes, 32 bits. `salt` selects one of many hashes. */
function hash(bytes, salt) {
  let h = 0x811c9dc5 ^ salt;
  for (const byte of Buffer.from(bytes)) h = Math.imul(h ^ byte, 0x01000193);
  return h >>> 0;
}

const requestError = (message, code = null) => ({
  error: { message, type: 'invalid_request_error', param: null, code },
});

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
  const option = (name, fallback) => {
    const index = process.argv.indexOf(`--${name}`);
    return index < 0 ? fallback : Number(process.argv[index + 1]);
  };
  const origin = await start({ port: option('port', 8788), delay: option('delay', 20) });
  console.log(`demo origin on ${origin.url}`);
}
