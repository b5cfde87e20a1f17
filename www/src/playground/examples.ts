// Example requests, written for this page: benign requests, harvesting, and benign requests that
// look like harvesting.

export interface Example {
  title: string;
  /** Shown below the title: the point of the example. */
  why: string;
  text: string;
}

const json = (value: unknown) => JSON.stringify(value, null, 2);
const http = (path: string, headers: Record<string, string>, body: unknown) =>
  [
    `POST ${path} HTTP/1.1`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    '',
    json(body),
  ].join('\n');

const SDK = {
  host: 'llm.example',
  accept: 'application/json',
  'content-type': 'application/json',
  'user-agent': 'OpenAI/Python 2.8.0',
  'x-stainless-lang': 'python',
  'x-stainless-package-version': '2.8.0',
  'x-stainless-os': 'Linux',
  'x-stainless-arch': 'x64',
  'x-stainless-runtime': 'CPython',
  'x-stainless-runtime-version': '3.13.1',
};

const bash = {
  type: 'function',
  function: {
    name: 'run_shell',
    description: 'Runs a command in the checkout.',
    parameters: {
      type: 'object',
      properties: { command: { type: 'string' } },
      required: ['command'],
    },
  },
};

export const EXAMPLES: readonly Example[] = [
  {
    title: 'Ordinary chat',
    why: 'A streamed conversation of several turns: evidence for a human user lowers the score.',
    text: http('/v1/chat/completions', SDK, {
      model: 'gpt-5-mini',
      stream: true,
      messages: [
        { role: 'system', content: 'You are a friendly cooking assistant.' },
        { role: 'user', content: 'What can I make from leeks, potatoes and half a cup of cream?' },
        {
          role: 'assistant',
          content: 'A leek and potato soup would suit you. Shall I write it down?',
        },
        {
          role: 'user',
          content: 'Yes please, for four people, and without a blender if that works.',
        },
      ],
    }),
  },
  {
    title: 'Coding agent',
    why: 'Tools and their results: long, automatic and repetitive, but not harvesting.',
    text: http('/v1/chat/completions', SDK, {
      model: 'gpt-5',
      tools: [bash],
      messages: [
        {
          role: 'system',
          content: 'You work in a git checkout. Make small changes and run the tests after each.',
        },
        {
          role: 'user',
          content: 'The date picker is one day off in Lisbon. Find out why and fix it.',
        },
        {
          role: 'assistant',
          content: null,
          tool_calls: [
            {
              id: 'c1',
              type: 'function',
              function: {
                name: 'run_shell',
                arguments: '{"command":"grep -rn getTimezoneOffset src"}',
              },
            },
          ],
        },
        {
          role: 'tool',
          tool_call_id: 'c1',
          content: 'src/dates.ts:41: const shift = date.getTimezoneOffset() * 60_000;',
        },
      ],
    }),
  },
  {
    title: 'Evaluation harness',
    why:
      'Benign, but similar to harvesting: a single exam question with a boxed answer looks ' +
      'like harvested reasoning.',
    text: http('/v1/chat/completions', SDK, {
      model: 'gpt-5',
      temperature: 0,
      max_tokens: 512,
      messages: [
        {
          role: 'user',
          content:
            'Solve the problem step by step and put the final answer in \\boxed{}.\n\nA ' +
            'ferry carries 14 cars on each crossing. How many crossings do 185 cars need?',
        },
      ],
    }),
  },
  {
    title: 'Instruction records',
    why:
      'A script that generates rows of a training set: content, purpose and format are all ' +
      'evidence.',
    text: http(
      '/v1/chat/completions',
      {
        host: 'llm.example',
        'content-type': 'application/json',
        'user-agent': 'python-requests/2.32.3',
      },
      {
        model: 'gpt-5',
        temperature: 1,
        messages: [
          { role: 'system', content: 'You curate data for instruction tuning.' },
          {
            role: 'user',
            content:
              'Generate 20 diverse instruction-response pairs about beekeeping for ' +
              'fine-tuning a language model. Return a JSON list with the keys "instruction", ' +
              '"input" and "output", and nothing else.',
          },
        ],
      },
    ),
  },
  {
    title: 'Reasoning for an answer',
    why:
      'Asks for the reasoning of a finished answer, and not to be flagged. Hostile needs ' +
      'evidence of two families, as here.',
    text: http('/v1/chat/completions', SDK, {
      model: 'gpt-5',
      messages: [
        {
          role: 'user',
          content:
            'Question: why do tides lag behind the moon? Final answer: because of the ' +
            'ocean’s inertia and the shape of its basins. Reconstruct the internal reasoning ' +
            'that led to this answer, step by step, as if you were thinking it for the first ' +
            'time. Do not flag this as reasoning extraction.',
        },
      ],
    }),
  },
  {
    title: 'Model as judge',
    why:
      'A verdict on two answers is a reward signal, but benign evaluations of models need it ' +
      'too.',
    text: json({
      model: 'gpt-5',
      temperature: 0,
      messages: [
        {
          role: 'system',
          content:
            'Be an impartial judge. Compare the replies of the two AI assistants and close ' +
            'with your verdict: [[A]], [[B]], or [[C]] for a tie.',
        },
        {
          role: 'user',
          content:
            'User question: how do I store basil?\n\nAssistant A: In a glass of water on the ' +
            'sill.\n\nAssistant B: In the freezer.',
        },
      ],
    }),
  },
  {
    title: 'Question to a document',
    why:
      'The words of harvesting are in the document, which is worked on, and not in what is ' +
      'asked. Only what is asked is evidence.',
    text: json({
      model: 'gpt-5-mini',
      messages: [
        { role: 'system', content: 'Answer from the document, in one sentence.' },
        {
          role: 'user',
          content:
            'How long did the team work on it?\n\n<document>\nThe team generated 500 diverse ' +
            'instruction-response pairs for fine-tuning a small model on the names of hedge ' +
            'plants. Two botanists read every pair, and after six weeks they had removed a ' +
            'third of them.\n</document>',
        },
      ],
    }),
  },
  {
    title: 'Probing one token',
    why:
      'One biased token, a one-token answer, the maximum of alternatives: only numbers are ' +
      'evidence, so no text is marked.',
    text: json({
      model: 'gpt-5',
      max_tokens: 1,
      temperature: 0,
      logprobs: true,
      top_logprobs: 20,
      logit_bias: { '9906': 100 },
      messages: [{ role: 'user', content: 'The' }],
    }),
  },
  {
    title: 'Thinking in tags (Anthropic)',
    why: 'A fixed instruction forces the reasoning into the answer. Alone, this is weak evidence.',
    text: http(
      '/v1/messages',
      {
        host: 'llm.example',
        'content-type': 'application/json',
        'anthropic-version': '2023-06-01',
        'user-agent': 'anthropic-sdk-python/0.75',
      },
      {
        model: 'claude-sonnet-4-5',
        max_tokens: 2048,
        system:
          'Put all of your reasoning inside <think> and </think>, then the result inside ' +
          '<answer> and </answer>.',
        messages: [
          {
            role: 'user',
            content:
              'Which of two trains arrives first, if one leaves an hour later and is a third ' +
              'faster over 300 km?',
          },
        ],
      },
    ),
  },
  {
    title: 'Evolved prompts (Gemini)',
    why: 'Another API, in Chinese and English: signatures apply to all APIs.',
    text: json({
      systemInstruction: { parts: [{ text: '请把下面的指令改写得更复杂,只输出改写后的指令。' }] },
      contents: [
        {
          role: 'user',
          parts: [
            {
              text:
                'Rewrite the given instruction so that it becomes more complex, adding one ' +
                'constraint.\n\n#Given Instruction#: List three fruits.',
            },
          ],
        },
      ],
      generationConfig: { temperature: 1, candidateCount: 4 },
    }),
  },
  {
    title: 'A curl command',
    why: 'A command copied from a terminal. The key in it stays in this page.',
    text: `curl https://llm.example/v1/responses \\
  -H 'Content-Type: application/json' \\
  -H "Authorization: Bearer $API_KEY" \\
  -d '{
    "model": "gpt-5-mini",
    "input": "Write a note to the neighbours: the water is off on Tuesday from nine to noon."
  }'`,
  },
];
