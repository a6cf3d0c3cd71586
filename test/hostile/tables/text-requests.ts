import { once } from 'node:events';
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { outcomeOf, type RequestContent } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';
import type { HostileStack } from '../hostile-stack.js';

// No worker runs, so nothing is generated: what is not refused is answered 503 after the wait, which no case may cause.

const JSON_TYPE = { 'content-type': 'application/json' };

type Body = unknown | ((stack: HostileStack) => unknown);

const post = (name: string, outcome: string, path: string, body: Body, headers = JSON_TYPE): HostileCase => ({
  name,
  outcome,
  send(stack) {
    const content = typeof body === 'function' ? body(stack) : body;
    const text = typeof content === 'string' || content instanceof Uint8Array ? content : JSON.stringify(content);
    return outcomeOf(stack, 'POST', path, { headers, body: text } as RequestContent);
  },
});
const TOOL = { type: 'function', function: { name: 'f', parameters: { type: 'object' } } };
const CALL = { id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } };
const nested = (levels: number): object => (levels === 0 ? {} : { a: nested(levels - 1) });
const MESSAGES = [{ role: 'user', content: 'Hello' }];
/** A request that is valid except for these fields. */
const chat = (name: string, outcome: string, fields: object) =>
  post(`chat: ${name}`, outcome, '/v1/chat/completions', { model: 'tiny-llama', messages: MESSAGES, ...fields });
const completion = (name: string, outcome: string, fields: object) =>
  post(`completion: ${name}`, outcome, '/v1/completions', { model: 'tiny-llama', prompt: 'Hello', ...fields });

const INVALID = '400 invalid_request';
const UNKNOWN = '400 unknown_field';
const NO_MODEL = '404 model_not_found';
const TOO_LARGE = '413 body_too_large';

const models: HostileCase[] = [
  ...[
    'nothing',
    '../secret.txt',
    '/etc/passwd',
    'tiny-llama/../../secret.txt',
    '.',
    '..',
    'tiny-llama\u0000',
    `ad_${'0'.repeat(24)}`,
    'ad_',
    'job_000000000000000000000000',
    '__proto__',
    'tiny-llama other',
    'TINY-LLAMA',
  ].map((model) => chat(`model ${JSON.stringify(model)}`, NO_MODEL, { model })),
  chat('a dataset as the model', NO_MODEL, { model: `ds_${'0'.repeat(24)}` }),
  chat('an empty model', INVALID, { model: '' }),
  chat('a very long model', INVALID, { model: 'x'.repeat(100_000) }),
  chat('a model that is a list', INVALID, { model: ['tiny-llama'] }),
  ...['..', '%2e%2e%2f%2e%2e%2fsecret.txt', 'nothing', 'ad_000000000000000000000000', '%00', `${'x'.repeat(300)}`].map(
    (model): HostileCase => ({
      name: `GET /v1/models/${model.slice(0, 40)}`,
      outcome: model.length > 200 ? INVALID : NO_MODEL,
      send: (stack) => outcomeOf(stack, 'GET', `/v1/models/${model}`),
    }),
  ),
];

const arrays = (depth: number): object => (depth === 0 ? {} : { type: 'array', items: arrays(depth - 1) });
const wide = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, {}]));
const references = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`a${i}`, { $ref: `#/$defs/a${i + 1}` }]));
const hostileSchemas: [name: string, schema: object][] = [
  ['of 300 levels', arrays(300)],
  ['of 20,000 properties', { type: 'object', properties: wide(20_000) }],
  [
    'of 40 objects with 500 properties',
    { anyOf: Array.from({ length: 40 }, (_, i) => ({ type: 'object', properties: wide(500), required: [`q${i}`] })) },
  ],
  ['of 15,000 times', { anyOf: Array.from({ length: 15_000 }, () => ({ type: 'string', format: 'date-time' })) }],
  ['of 5,000 references in a row', { $ref: '#/$defs/a0', $defs: references(5_000) }],
  ['that refers to itself', { $ref: '#' }],
  ['that requires itself', { type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }],
  ['that nothing satisfies', { type: 'array', minItems: 2, maxItems: 1 }],
  ['of another site', { $ref: 'http://169.254.169.254/' }],
  ['with a pattern', { type: 'string', pattern: '(a+)+$' }],
];

const fields: HostileCase[] = [
  ...['audio', 'verbosity', 'best_of', 'suffix', 'prompt', '__proto__x'].map((field) =>
    chat(`the field ${field}`, UNKNOWN, { [field]: 1 }),
  ),
  completion('messages', UNKNOWN, { messages: MESSAGES }),
  completion('best_of', INVALID, { best_of: 2 }),
  completion('suffix', INVALID, { suffix: 'x' }),
  chat('older tools', INVALID, { functions: [] }),
  chat('an older call', INVALID, { function_call: 'auto' }),
  chat('a store', INVALID, { store: 1 }),
  chat('metadata of numbers', INVALID, { metadata: { x: 1 } }),
  chat('much metadata', INVALID, { metadata: { x: 'x'.repeat(10_000) } }),
  chat('a modality', INVALID, { modalities: ['audio'] }),
  chat('a high penalty', INVALID, { presence_penalty: 2.1 }),
  chat('a repetition penalty of 0', INVALID, { repetition_penalty: 0 }),
  chat('top_k below -1', INVALID, { top_k: -2 }),
  chat('half a top_k', INVALID, { top_k: 1.5 }),
  chat('min_p below 0', INVALID, { min_p: -0.1 }),
  chat('min_p above 1', INVALID, { min_p: 1.1 }),
  chat('a bias', UNKNOWN, { logit_bias: { 5: 100 } }),
  chat('an unknown format', INVALID, { response_format: { type: 'xml' } }),
  ...hostileSchemas.map(([name, schema]) =>
    chat(`a schema ${name}`, INVALID, { response_format: { type: 'json_schema', json_schema: { name: 'x', schema } } }),
  ),
  chat('a temperature of text', INVALID, { temperature: '0' }),
  chat('a negative temperature', INVALID, { temperature: -0.1 }),
  chat('a hot temperature', INVALID, { temperature: 2.1 }),
  chat('top_p of 0', INVALID, { top_p: 0 }),
  chat('top_p above 1', INVALID, { top_p: 1.0001 }),
  chat('n of 0', INVALID, { n: 0 }),
  chat('n of 9', INVALID, { n: 9 }),
  chat('n of a million', INVALID, { n: 1_000_000 }),
  chat('half an answer', INVALID, { n: 1.5 }),
  chat('max_tokens of 0', INVALID, { max_tokens: 0 }),
  chat('max_tokens beyond the limit', INVALID, { max_tokens: 1_000_000 }),
  chat('max_tokens beyond integers', INVALID, { max_tokens: 1e300 }),
  chat('a negative max_completion_tokens', INVALID, { max_completion_tokens: -1 }),
  chat('a seed beyond integers', INVALID, { seed: 2 ** 60 }),
  chat('a seed that is half', INVALID, { seed: 0.5 }),
  chat('a thousand stop texts', INVALID, { stop: Array(1_000).fill('x') }),
  chat('an empty stop text', INVALID, { stop: [''] }),
  chat('a long stop text', INVALID, { stop: 'x'.repeat(10_000) }),
  chat('stop texts that are numbers', INVALID, { stop: [1] }),
  chat('top_logprobs of 21', INVALID, { logprobs: true, top_logprobs: 21 }),
  chat('top_logprobs alone', INVALID, { top_logprobs: 1 }),
  chat('logprobs that are a number', INVALID, { logprobs: 1 }),
  chat('options of no stream', INVALID, { stream_options: { include_usage: true } }),
  chat('unknown options of a stream', UNKNOWN, { stream: true, stream_options: { x: 1 } }),
  chat('stream as text', INVALID, { stream: 'true' }),
  chat('a very long user', INVALID, { user: 'x'.repeat(10_000) }),
];

const prompts: HostileCase[] = [
  chat('no messages', INVALID, { messages: [] }),
  chat('messages as text', INVALID, { messages: 'Hello' }),
  chat('a message of null', INVALID, { messages: [null] }),
  chat('an unknown role', INVALID, { messages: [{ role: 'root', content: 'x' }] }),
  chat('no content', INVALID, { messages: [{ role: 'user' }] }),
  chat('a content of null', INVALID, { messages: [{ role: 'user', content: null }] }),
  chat('an image', INVALID, {
    messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }],
  }),
  chat('a weight', UNKNOWN, { messages: [{ role: 'assistant', content: 'x', weight: 1 }] }),
  chat('a call by the user', INVALID, { messages: [{ role: 'user', content: 'x', tool_calls: [CALL] }] }),
  chat('a call with arguments that are no JSON', INVALID, {
    messages: [{ role: 'assistant', tool_calls: [{ ...CALL, function: { name: 'f', arguments: '{"a"' } }] }],
  }),
  chat('a call with arguments of 20,000 levels', INVALID, {
    messages: [
      {
        role: 'assistant',
        tool_calls: [
          { ...CALL, function: { name: 'f', arguments: `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}` } },
        ],
      },
    ],
  }),
  chat('an answer to no call', INVALID, { messages: [{ role: 'tool', tool_call_id: 'x', content: 'x' }] }),
  chat('129 tools', INVALID, { tools: Array(129).fill(TOOL) }),
  chat('the same tool twice', INVALID, { tools: [TOOL, TOOL] }),
  chat('a tool of another kind', INVALID, { tools: [{ type: 'web_search_preview' }] }),
  chat('tools as text', INVALID, { tools: 'f' }),
  chat('parameters of 1,000 levels', INVALID, {
    tools: [{ ...TOOL, function: { name: 'f', parameters: nested(1_000) } }],
  }),
  chat('a call that must be made without tools', INVALID, { tool_choice: 'required' }),
  chat('a tool that must be called and is not there', INVALID, {
    tools: [TOOL],
    tool_choice: { type: 'function', function: { name: 'g' } },
  }),
  chat('an allowed tool that is not there', INVALID, {
    tools: [TOOL],
    tool_choice: {
      type: 'allowed_tools',
      allowed_tools: { mode: 'auto', tools: [{ type: 'function', function: { name: 'g' } }] },
    },
  }),
  chat('no allowed tools', INVALID, {
    tools: [TOOL],
    tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'auto', tools: [] } },
  }),
  chat('a tool whose schema refers to another site', INVALID, {
    tools: [{ ...TOOL, function: { ...TOOL.function, parameters: { $ref: 'file:///etc/passwd' } } }],
    tool_choice: 'required',
  }),
  chat('a call in the older form', INVALID, {
    messages: [{ role: 'assistant', content: null, function_call: { name: 'f', arguments: '{}' } }],
  }),
  chat('1,001 messages', INVALID, { messages: Array(1_001).fill(MESSAGES[0]) }),
  chat('101 parts', INVALID, { messages: [{ role: 'user', content: Array(101).fill({ type: 'text', text: 'x' }) }] }),
  chat('2 MB', TOO_LARGE, { messages: [{ role: 'user', content: 'x'.repeat(2_000_000) }] }),
  post('chat: no prompt at all', INVALID, '/v1/chat/completions', { model: 'tiny-llama' }),
  completion('17 prompts', INVALID, { prompt: Array(17).fill('x') }),
  completion('9 prompts with 2 answers', INVALID, { prompt: Array(9).fill('x'), n: 2 }),
  completion('no prompts', INVALID, { prompt: [] }),
  completion('a prompt of no tokens', INVALID, { prompt: [[]] }),
  completion('a prompt of null', INVALID, { prompt: null }),
  completion('texts and tokens', INVALID, { prompt: ['x', 1] }),
  completion('a negative token', INVALID, { prompt: [-1] }),
  completion('a token beyond all vocabularies', INVALID, { prompt: [2 ** 31] }),
  completion('half a token', INVALID, { prompt: [0.5] }),
  completion('nothing to say', INVALID, { max_tokens: 0 }),
  completion('2 MB of tokens', TOO_LARGE, { prompt: Array(700_000).fill(12) }),
];

const bodies: HostileCase[] = [
  ...['/v1/chat/completions', '/v1/completions'].flatMap((path) => [
    post(`${path}: empty`, INVALID, path, ''),
    post(`${path}: no JSON`, '400 invalid_json', path, '{"model": '),
    post(`${path}: a list`, INVALID, path, '[]'),
    post(`${path}: __proto__`, '400 invalid_json', path, '{"__proto__": {"x": 1}}'),
    post(`${path}: 100,000 levels`, INVALID, path, `{"model": ${'['.repeat(100_000)}${']'.repeat(100_000)}}`),
    post(`${path}: 10,000 unknown fields`, UNKNOWN, path, ({ modelsDir: _ }: HostileStack) => ({
      model: 'tiny-llama',
      ...(path.includes('chat') ? { messages: MESSAGES } : { prompt: 'x' }),
      ...Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`field${i}`, 1])),
    })),
    post(`${path}: a form`, '415 unsupported_media_type', path, 'model=x', {
      'content-type': 'application/x-www-form-urlencoded',
    }),
    {
      name: `${path}: GET`,
      outcome: '405 method_not_allowed',
      send: (stack: HostileStack) => outcomeOf(stack, 'GET', path),
    },
  ]),
  ...['/v1/', '/v1/chat', '/v1/embeddings', '/v1/responses', '/v1/../secret.txt', '/v1/models/tiny-llama/x'].map(
    (path): HostileCase => ({
      name: `POST ${path}`,
      outcome: '404 not_found',
      send: (stack) => outcomeOf(stack, 'POST', path, { headers: JSON_TYPE, body: '{}' }),
    }),
  ),
  {
    name: 'a hundred callers who leave while they wait',
    outcome: '200',
    async send(stack) {
      const { hostname, port } = new URL(stack.apiUrl);
      const key = stack.token === null ? {} : { authorization: `Bearer ${stack.token}` };
      const callers = Array.from({ length: 100 }, () => {
        const headers = { ...JSON_TYPE, ...key };
        const sent = request({ hostname, port, path: '/v1/chat/completions', method: 'POST', headers, agent: false });
        sent.on('error', () => {});
        sent.end(JSON.stringify({ model: 'tiny-llama', messages: MESSAGES, stream: true }));
        return sent;
      });
      await Promise.all(callers.map((caller) => once(caller, 'finish').catch(() => {})));
      await sleep(100);
      for (const caller of callers) caller.destroy();
      return await outcomeOf(stack, 'GET', '/v1/models');
    },
  },
];

/** Requests to the calls of the OpenAI API. */
export const textRequests: HostileTable = {
  kind: 'requests for text',
  cases: [...models, ...fields, ...prompts, ...bodies],
};
