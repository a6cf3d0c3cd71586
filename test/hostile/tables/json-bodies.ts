import { gzipSync } from 'node:zlib';
import { outcomeOf } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';
import type { HostileStack } from '../hostile-stack.js';

type Body = string | Uint8Array | ((stack: HostileStack) => string);

const post = (name: string, outcome: string, body: Body, headers: Record<string, string> = {}): HostileCase => ({
  name,
  outcome,
  send: (stack) =>
    outcomeOf(stack, 'POST', '/jobs?dry_run=true', {
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'function' ? body(stack) : body,
    }),
});

/** A request that is valid except for these fields. */
const job = (name: string, outcome: string, fields: object) =>
  post(name, outcome, ({ dataset }) => JSON.stringify({ base_model: 'tiny-llama', dataset, ...fields }));
/** Fields as text, for JSON that `JSON.stringify` would not write. */
const jobText = (name: string, outcome: string, fields: string) =>
  post(name, outcome, ({ dataset }) => `{"base_model": "tiny-llama", "dataset": "${dataset}", ${fields}}`);
const lora = (name: string, outcome: string, fields: object) => job(`lora: ${name}`, outcome, { lora: fields });
const training = (name: string, outcome: string, fields: object) =>
  job(`training: ${name}`, outcome, { training: fields });

const INVALID = '400 invalid_request';
const PATTERN = { type: 'regex', pattern: '(a+)+$' };
const objective = (name: string, outcome: string, fields: object) =>
  job(`objective: ${name}`, outcome, { objective: fields });
const grading = (url: string, more: object = {}) => {
  return { kind: 'group-relative', grader: { type: 'webhook', url, ...more } };
};
const judging = (more: object) => {
  const judge = { type: 'score_model', model: 'judge', input: 'Score {{sample.output_text}}.' };
  return { kind: 'group-relative', grader: { ...judge, ...more } };
};
const NOT_JSON = '400 invalid_json';
const deep = (open: string, close: string, levels: number) => `${open.repeat(levels)}${close.repeat(levels)}`;

const notJson: HostileCase[] = [
  // An empty body counts as a missing one.
  post('empty', INVALID, ''),
  post('incomplete JSON', NOT_JSON, '{"base_model": "tiny'),
  post('a trailing comma', NOT_JSON, '{"base_model": "x",}'),
  post('a comment', NOT_JSON, '{} // x'),
  post('single quotes', NOT_JSON, "{'a': 1}"),
  post('two values', NOT_JSON, '{}{}'),
  post('NaN', NOT_JSON, '{"lora": {"alpha": NaN}}'),
  post('Infinity', NOT_JSON, '{"lora": {"alpha": Infinity}}'),
  post('a hexadecimal number', NOT_JSON, '{"lora": {"r": 0x10}}'),
  post('a number with a zero in front', NOT_JSON, '{"lora": {"r": 08}}'),
  post('a control character in a string', NOT_JSON, '{"name": "a\u0001b"}'),
  post('an unknown escape', NOT_JSON, '{"name": "\\x41"}'),
  post('zero bytes', NOT_JSON, Buffer.alloc(64)),
  post('UTF-16', NOT_JSON, Buffer.from('{"a": 1}', 'utf16le')),
  post('invalid UTF-8', '400 invalid_request', Buffer.from('{"name": "\xff\xfe"}', 'latin1')),
  post('gzip without a content encoding', NOT_JSON, gzipSync('{}')),
  post('__proto__', NOT_JSON, '{"__proto__": {"isAdmin": true}}'),
  post('__proto__, written with an escape', NOT_JSON, '{"\\u005f_proto__": {"isAdmin": true}}'),
  post('a nested __proto__', NOT_JSON, '{"lora": {"rank_pattern": {"__proto__": 8}}}'),
  post('constructor.prototype', NOT_JSON, '{"constructor": {"prototype": {"x": 1}}}'),
];

const otherShapes: HostileCase[] = [
  post('null', INVALID, 'null'),
  post('a list', INVALID, '[]'),
  post('a string', INVALID, '"x"'),
  post('a number', INVALID, '1e999'),
  post('100,000 nested lists', INVALID, deep('[', ']', 100_000)),
  post('50,000 nested objects', '400 invalid_request', deep('{"a":', '}', 40_000).replace(':}', ':1}')),
  jobText('50,000 lists in a field', INVALID, `"metadata": ${deep('[', ']', 50_000)}`),
  jobText(
    '3,000 lists in the schema of a grader',
    INVALID,
    `"objective": {"kind": "group-relative", "grader": {"type": "json_schema", "schema": {"type": "string", "default": ${deep('[', ']', 3_000)}}}}`,
  ),
  post('10,000 fields', INVALID, `{${Array.from({ length: 10_000 }, (_, i) => `"f${i}":1`).join(',')}}`),
  post('a body over the limit', '413 body_too_large', `{"name": "${'x'.repeat(300_000)}"}`),
  post('a length of 20 MB', '413 body_too_large', '{', { 'content-length': '20000000' }),
  post('a length of 2^53', '413 body_too_large', '{', { 'content-length': '9007199254740993' }),
  post('text/plain', '415 unsupported_media_type', '{}', { 'content-type': 'text/plain' }),
  post('a form', '415 unsupported_media_type', 'base_model=x', { 'content-type': 'application/x-www-form-urlencoded' }),
  post('XML', '415 unsupported_media_type', '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>', {
    'content-type': 'application/xml',
  }),
  post('an invalid content type', '415 unsupported_media_type', '{}', { 'content-type': ';;;' }),
  post('a content type of 8,000 characters', '415 unsupported_media_type', '{}', {
    'content-type': `application/${'x'.repeat(8_000)}`,
  }),
  post('a gzip bomb with a content encoding', '415 unsupported_media_type', gzipSync(Buffer.alloc(50_000_000, 0x20)), {
    'content-encoding': 'gzip',
  }),
];

const values: HostileCase[] = [
  objective('no grader', INVALID, { kind: 'group-relative' }),
  objective('a setting of another kind', INVALID, { kind: 'group-relative', grader: PATTERN, beta: 0.1 }),
  objective('a grader of an unknown type', INVALID, {
    kind: 'group-relative',
    grader: { type: 'python', source: 'x' },
  }),
  objective('a grader that is a list', INVALID, { kind: 'group-relative', grader: [PATTERN] }),
  objective('a multi grader within another', INVALID, {
    kind: 'group-relative',
    grader: { type: 'multi', graders: { a: { type: 'multi', graders: {} } }, calculate_output: 'a' },
  }),
  objective('a name of a grader with a dot', '400 unknown_field', {
    kind: 'group-relative',
    grader: { type: 'multi', graders: { 'a.b': PATTERN }, calculate_output: 'a' },
  }),
  objective('an endless formula', INVALID, {
    kind: 'group-relative',
    grader: { type: 'multi', graders: { a: PATTERN }, calculate_output: 'a+'.repeat(1000) },
  }),
  objective('a webhook in a formula', INVALID, {
    kind: 'group-relative',
    grader: {
      type: 'multi',
      graders: { a: { type: 'webhook', url: 'https://example.com/' } },
      calculate_output: 'a',
    },
  }),
  objective('a grader whose webhook is in this network', '422 invalid_job', grading('https://169.254.169.254/latest/')),
  objective('a grader whose webhook is a file', '422 invalid_job', grading('file:///etc/passwd')),
  objective('a grader whose webhook has 3,000 characters', INVALID, grading(`https://a.example/${'x'.repeat(3_000)}`)),
  objective('a grader whose webhook has no time', INVALID, grading('https://example.com/', { timeout_seconds: 0 })),
  objective('a grader whose webhook has a year', INVALID, grading('https://example.com/', { timeout_seconds: 3e7 })),
  objective('a grader whose webhook has a secret', '400 unknown_field', grading('https://a.example/', { secret: 'x' })),
  objective('a judge on a server of nobody', '422 invalid_job', judging({ url: 'http://169.254.169.254/v1' })),
  objective('a judge on a server that is a file', '422 invalid_job', judging({ url: 'file:///etc/passwd' })),
  objective('a judge that is no model here', '422 invalid_job', judging({})),
  objective('a judge without a message', '422 invalid_job', judging({ model: 'tiny', input: undefined })),
  objective('a judge who sees no answer', '422 invalid_job', judging({ model: 'tiny', input: '{{item.reference}}' })),
  objective('a judge with an endless message', INVALID, judging({ input: 'x'.repeat(5_000) })),
  objective('a judge with an endless name', INVALID, judging({ model: 'x'.repeat(300) })),
  objective('a judge with a range of one number', INVALID, judging({ range: [1] })),
  objective('a judge with a range beyond rewards', INVALID, judging({ range: [0, 1e7] })),
  objective('a judge with a key', '400 unknown_field', judging({ api_key: 'sk-x' })),
  objective('a group of one', INVALID, { kind: 'group-relative', grader: PATTERN, group_size: 1 }),
  objective('answers to no prompts', '422 invalid_job', { kind: 'group-relative', grader: PATTERN }),
  job('a base model that is a path', INVALID, { base_model: '../../secret.txt' }),
  job('a base model that is an absolute path', INVALID, { base_model: '/etc' }),
  job('a base model that begins with a dot', INVALID, { base_model: '.hidden' }),
  job('a base model of 97 characters', INVALID, { base_model: 'x'.repeat(97) }),
  job('a base model with a line break', INVALID, { base_model: 'tiny-llama\n' }),
  job('a missing base model', '404 model_not_found', { base_model: 'constructor' }),
  job('a dataset that is a path', INVALID, { dataset: 'ds_../../secret' }),
  job('a missing dataset', '404 dataset_not_found', { dataset: `ds_${'f'.repeat(24)}` }),
  job('an adapter as dataset', INVALID, { dataset: `ad_${'f'.repeat(24)}` }),
  job('a number as dataset', INVALID, { dataset: 7 }),
  ...[
    'http://example.com/',
    'https://user:password@example.com/',
    'https://127.0.0.1/',
    'https://2130706433/',
    'https://0x7f000001/',
    'https://127.1/',
    'https://[::1]/',
    'https://[::ffff:10.0.0.1]/',
    'https://169.254.169.254/latest/meta-data/',
    'https://localhost:6379/',
    'https://redis/',
    'https://registry.internal/',
    'https://example.com:25/',
    'https://example.com/#fragment',
    'file:///etc/passwd',
    'gopher://example.com/',
    'javascript:alert(1)',
    'https:// example.com/\r\nx: y',
  ].map((url) => job(`a webhook to ${url}`, '422 invalid_job', { webhook: { url } })),
  job('a webhook to a public address', '200', { webhook: { url: 'https://example.com:8443/hook?a=b' } }),
  job('a webhook without an address', INVALID, { webhook: {} }),
  job('a webhook with an address of 3,000 characters', INVALID, {
    webhook: { url: `https://a.example/${'x'.repeat(3_000)}` },
  }),
  job('a webhook that is a text', INVALID, { webhook: 'https://example.com/' }),
  job('a webhook with a secret of its own', '400 unknown_field', {
    webhook: { url: 'https://example.com/', secret: 'whsec_x' },
  }),
  job('tags that are a text', INVALID, { tags: 'a' }),
  job('a tag with a comma', INVALID, { tags: ['a,b'] }),
  job('a tag without ink', INVALID, { tags: ['\u200b'] }),
  job('the same tag twice', INVALID, { tags: ['a', 'a'] }),
  job('10,000 tags', INVALID, { tags: Array.from({ length: 10_000 }, (_, i) => `t${i}`) }),
  job('a note of 4,001 characters', INVALID, { note: 'x'.repeat(4_001) }),
  job('a note with an escape sequence', INVALID, { note: 'a\u001b[2J' }),
  job('20 tags and a note of 4,000 emoji', '200', {
    tags: Array.from({ length: 20 }, (_, i) => `${'x'.repeat(48)}${i}`.slice(-50)),
    note: '😀'.repeat(4_000),
  }),
  job('an empty name', INVALID, { name: '' }),
  job('a name of 129 characters', INVALID, { name: 'x'.repeat(129) }),
  jobText('a name with a lone surrogate', '200', '"name": "\\ud800"'),
  job('a name of 128 emoji', '200', { name: '😀'.repeat(128) }),
  job('a name of 129 emoji', INVALID, { name: '😀'.repeat(129) }),
  job('a name with an escape sequence', INVALID, { name: 'a\u001b[2J' }),
  job('a name of blanks', INVALID, { name: ' \u00a0\u3000' }),
  job('a name without ink', INVALID, { name: '\u200b\u2060\ufe0f' }),
  job('a name with a joiner', '200', { name: '👩\u200d🔬' }),
  job('a name in two lines', INVALID, { name: 'a\nb' }),
  job('a name that turns the text around', INVALID, { name: 'a\u202eb' }),
  job('a name that is an object', INVALID, { name: { toString: 'x' } }),
  job('17 metadata entries', INVALID, {
    metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])),
  }),
  job('a metadata key of 65 characters', '400 unknown_field', { metadata: { ['k'.repeat(65)]: 'v' } }),
  job('a metadata key of 33 emoji', '200', { metadata: { ['😀'.repeat(33)]: 'v' } }),
  job('a metadata key of 64 emoji', '200', { metadata: { ['😀'.repeat(64)]: 'v' } }),
  job('a metadata key of 65 emoji', '400 unknown_field', { metadata: { ['😀'.repeat(65)]: 'v' } }),
  jobText('a metadata key of lone surrogates', '200', '"metadata": {"\\udc00\\ud800": "v"}'),
  job('a metadata key with a line break', '400 unknown_field', { metadata: { 'a\nb': 'v' } }),
  job('a metadata value of 512 emoji', '200', { metadata: { k: '😀'.repeat(512) } }),
  job('a metadata value of 513 characters', INVALID, { metadata: { k: 'v'.repeat(513) } }),
  job('nested metadata', INVALID, { metadata: { k: { k: 'v' } } }),
  job('a split of 1', INVALID, { validation: { split: 1 } }),
  job('a negative split', INVALID, { validation: { split: -1e-9 } }),
  job('a validation dataset that is a path', INVALID, { validation: { dataset: '../../secret.txt' } }),
  job('an adapter as validation dataset', INVALID, { validation: { dataset: `ad_${'f'.repeat(24)}` } }),
  job('a list of validation datasets', INVALID, { validation: { dataset: [`ds_${'f'.repeat(24)}`] } }),
  job('a missing validation dataset', '404 dataset_not_found', { validation: { dataset: `ds_${'f'.repeat(24)}` } }),
  post('a split and a validation dataset', '422 invalid_job', ({ dataset }) =>
    JSON.stringify({ base_model: 'tiny-llama', dataset, validation: { split: 0.5, dataset } }),
  ),
  job('an unknown field', '400 unknown_field', { callback_url: 'http://169.254.169.254/' }),
  job('code to run', '400 unknown_field', { trust_remote_code: true }),
  lora('rank 0', INVALID, { r: 0 }),
  lora('rank 513', INVALID, { r: 513 }),
  lora('rank 2^53', INVALID, { r: 2 ** 53 }),
  lora('a rank as a string', INVALID, { r: '8' }),
  lora('a fractional rank', INVALID, { r: 8.5 }),
  lora('alpha 0', INVALID, { alpha: 0 }),
  jobText('lora: an alpha that overflows to infinity', INVALID, '"lora": {"alpha": 1e400}'),
  lora('dropout 1', INVALID, { dropout: 1 }),
  lora('an expression that backtracks', '422 unmatched_target', { target_modules: '(a+)+$' }),
  lora('another expression that backtracks', '422 unmatched_target', { target_modules: '(.*)*(.*)*(.*)*x' }),
  lora('an expression whose compiled size explodes', '422 invalid_job', { target_modules: '((((a{9}){9}){9}){9}){9}' }),
  lora('an expression with a look-ahead', '422 invalid_job', { target_modules: '(?=.*q)q_proj' }),
  lora('an expression with a back-reference', '422 invalid_job', { target_modules: '(q)\\1' }),
  lora('an expression with unclosed groups', '422 invalid_job', { target_modules: '((((' }),
  lora('1,000 brackets', '422 invalid_job', { target_modules: '('.repeat(1_000) }),
  lora('an expression of 1,025 characters', INVALID, { target_modules: 'x'.repeat(1_025) }),
  lora('no modules and no parameters', '422 unmatched_target', { target_modules: [] }),
  lora('4,097 modules', INVALID, { target_modules: Array.from({ length: 4_097 }, (_, i) => `m${i}`) }),
  lora('4,096 missing modules', '422 unmatched_target', {
    target_modules: Array.from({ length: 4_096 }, (_, i) => `m${i}`),
  }),
  lora('a module named like a JavaScript property', '422 unmatched_target', { target_modules: ['__proto__'] }),
  lora('a rank pattern that backtracks', '422 unmatched_target', { rank_pattern: { '(a|a)*b': 4 } }),
  lora('a pattern with a line break', '400 unknown_field', { rank_pattern: { 'q_proj|\n': 'x' } }),
  lora('65 rank patterns', '422 invalid_job', {
    rank_pattern: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`q_proj|x{${i + 1}}y`, 4])),
  }),
  lora('4,097 rank patterns', INVALID, {
    rank_pattern: Object.fromEntries(Array.from({ length: 4_097 }, (_, i) => [`m${i}`, 4])),
  }),
  lora('a rank pattern of 600 characters', '422 invalid_job', { rank_pattern: { ['x'.repeat(600)]: 4 } }),
  lora('block -1', INVALID, { layers_to_transform: [-1] }),
  lora('block 4,096', INVALID, { layers_to_transform: [4_096] }),
  lora('init_from as a path', INVALID, { init_from: '../../etc' }),
  lora('init_from a missing name', '404 adapter_not_found', { init_from: 'constructor' }),
  lora('init_from a name of 65 characters', INVALID, { init_from: 'x'.repeat(65) }),
  lora('init_from a job', INVALID, { init_from: `job_${'0'.repeat(24)}` }),
  lora('init_from a missing adapter', '404 adapter_not_found', { init_from: `ad_${'0'.repeat(24)}` }),
  training('epochs 0', INVALID, { epochs: 0 }),
  training('1,001 epochs', INVALID, { epochs: 1_001 }),
  training('10^7 + 1 steps', INVALID, { max_steps: 10_000_001 }),
  training('a batch of 4,097', INVALID, { batch_size: 4_097 }),
  training('a negative batch', INVALID, { batch_size: -8 }),
  training('a learning rate of 0', INVALID, { learning_rate: 0 }),
  training('a learning rate of 11', INVALID, { learning_rate: 11 }),
  training('rows of 1 token', INVALID, { max_seq_length: 1 }),
  training('rows of 2^20 + 1 tokens', INVALID, { max_seq_length: 2 ** 20 + 1 }),
  training('seed -1', INVALID, { seed: -1 }),
  training('seed 2^32', INVALID, { seed: 2 ** 32 }),
  jobText('training: an integer that is not safe', INVALID, '"training": {"eval_every_steps": 9007199254740993}'),
  jobText('training: checkpoints every 10^300 steps', INVALID, '"training": {"checkpoint_every_steps": 1e300}'),
  training('a schedule named like a JavaScript property', INVALID, { lr_scheduler: 'constructor' }),
  training('an unknown precision', INVALID, { precision: 'float64' }),
  training('an unknown quantization', INVALID, { base_quantization: 'int8' }),
];

/** A move of a name. @param changes - of a body that is valid but for its adapter, which does not exist */
const move = (name: string, outcome: string, changes: object, path = 'bot'): HostileCase => ({
  name: `a name of an adapter: ${name}`,
  outcome,
  send: (stack) =>
    outcomeOf(stack, 'PUT', `/aliases/${path}`, {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ adapter: `ad_${'0'.repeat(24)}`, ...changes }),
    }),
});

const moves: HostileCase[] = [
  move('to a missing adapter', '404 adapter_not_found', {}),
  move('to itself', '404 adapter_not_found', { adapter: 'bot' }),
  move('to a path', INVALID, { adapter: '../../etc' }),
  move('to a list', INVALID, { adapter: [`ad_${'0'.repeat(24)}`] }),
  move('to null', INVALID, { adapter: null }),
  move('with an escape sequence as its reason', INVALID, { reason: 'a\u001b[2J' }),
  move('with a reason of 201 characters', INVALID, { reason: 'x'.repeat(201) }),
  move('from version -1', INVALID, { if_version: -1 }),
  move('from version 2^53', INVALID, { if_version: 2 ** 53 }),
  move('from a version as text', INVALID, { if_version: '1' }),
  move('with an owner in its body', '400 unknown_field', { owner: null }),
  move('with the history in its body', '400 unknown_field', { history: [] }),
  move('of a base model', '409 conflict', {}, 'tiny-llama'),
  move('that looks like an id', INVALID, {}, `ad_${'0'.repeat(24)}`),
  move('with a colon', INVALID, {}, 'ft:bot'),
  move('in capitals', INVALID, {}, 'BOT'),
  move('of two dots', INVALID, {}, '%2e%2e'),
  move('with a tilde', INVALID, {}, 'a~0000000000000~0000000001'),
  move('with a line break', INVALID, {}, 'bot%0a'),
  move('of 65 characters', INVALID, {}, 'x'.repeat(65)),
  move('of an owner that is a path', INVALID, {}, 'bot?owner=../..'),
  move('of two owners', INVALID, {}, 'bot?owner=none&owner=none'),
  move('with an unknown parameter', '400 unknown_field', {}, 'bot?force=true'),
];

export const jsonBodies: HostileTable = {
  kind: 'JSON bodies',
  cases: [...notJson, ...otherShapes, ...values, ...moves],
};
