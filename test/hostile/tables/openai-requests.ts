import { outcomeOf, type RequestContent } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';
import { type HostileStack, LIMITS } from '../hostile-stack.js';

const INVALID = '400 invalid_request';
const UNKNOWN = '400 unknown_field';
const NO_FILE = '404 dataset_not_found';
const NO_JOB = '404 job_not_found';
const NO_MODEL = '404 model_not_found';
const JSON_TYPE = { 'content-type': 'application/json' };
const FILES = '/v1/files';
const JOBS = '/v1/fine_tuning/jobs';

type Method = 'GET' | 'POST' | 'DELETE';
type Content = RequestContent | ((stack: HostileStack) => RequestContent);

const request = (name: string, outcome: string, method: Method, path: string, content: Content = {}): HostileCase => ({
  name,
  outcome,
  send: (stack) =>
    outcomeOf(
      stack,
      method,
      path.replace('THE-JOB', stack.job).replace('THE-FILE', stack.dataset),
      typeof content === 'function' ? content(stack) : content,
    ),
});

const IDS: [name: string, written: string][] = [
  ['two dots, encoded twice', '%252e%252e'],
  ['a path traversal, encoded', '..%2f..%2fsecret.txt'],
  ['an absolute path, encoded', '%2fetc%2fpasswd'],
  ['a zero byte', 'x%00.jsonl'],
  ['a line break', 'x%0d%0aset-cookie:%20a=b'],
  ['a property of JavaScript', '__proto__'],
  ['the key of a stream in Redis', 'THE-JOB:events'],
  ['an id of the OpenAI API', 'ftjob-abc123'],
  ['the id of another kind', `ad_${'0'.repeat(24)}`],
  ['400 characters', 'x'.repeat(400)],
  // Those that the router refuses, before there is a route.
  ['9,000 characters', 'x'.repeat(9_000)],
  ['dots in overlong UTF-8', '%c0%ae%c0%ae%c0%af'],
];

function outcomeOfId(written: string, absent: string): string {
  if (written.length > 512) return '404 not_found';
  return written.length > 200 || written.startsWith('%c0') ? INVALID : absent;
}

const ROUTES: [what: string, method: Method, path: (id: string) => string, absent: string][] = [
  ['file', 'GET', (id) => `${FILES}/${id}`, NO_FILE],
  ['file to read', 'GET', (id) => `${FILES}/${id}/content`, NO_FILE],
  ['file to delete', 'DELETE', (id) => `${FILES}/${id}`, NO_FILE],
  ['fine-tuning job', 'GET', (id) => `${JOBS}/${id}`, NO_JOB],
  ['fine-tuning job to cancel', 'POST', (id) => `${JOBS}/${id}/cancel`, NO_JOB],
  ['fine-tuning job to pause', 'POST', (id) => `${JOBS}/${id}/pause`, NO_JOB],
  ['fine-tuning job to resume', 'POST', (id) => `${JOBS}/${id}/resume`, NO_JOB],
  ['fine-tuning job with events', 'GET', (id) => `${JOBS}/${id}/events`, NO_JOB],
  ['fine-tuning job with checkpoints', 'GET', (id) => `${JOBS}/${id}/checkpoints`, NO_JOB],
  ['fine-tuned model to delete', 'DELETE', (id) => `/v1/models/${id}`, NO_MODEL],
];

const ids: HostileCase[] = ROUTES.flatMap(([what, method, path, absent]) =>
  IDS.map(([name, written]) => request(`${name} as the ${what}`, outcomeOfId(written, absent), method, path(written))),
);

const absent: HostileCase[] = [
  request('a result file of no job', NO_FILE, 'GET', `${FILES}/res_${'0'.repeat(24)}`),
  {
    name: 'the result file of a job that waits',
    outcome: NO_FILE,
    send: (stack) => outcomeOf(stack, 'GET', `${FILES}/${stack.job.replace('job_', 'res_')}/content`),
  },
  request('a file that a job reads, deleted', '409 in_use', 'DELETE', `${FILES}/THE-FILE`),
  request('a job that waits, resumed', '409 job_not_resumable', 'POST', `${JOBS}/THE-JOB/resume`),
  request('a base model, deleted', '403 forbidden', 'DELETE', '/v1/models/tiny-llama'),
  ...[
    'ft:',
    'ft:tiny-llama',
    `ft:tiny-llama:lorasmith::ad_${'0'.repeat(24)}`,
    'ft:..%2f..:lorasmith::x',
    'ft:tiny-llama:lorasmith::job_x:ckpt-step-1',
    `${'ft:'.repeat(60)}x`,
  ].map((name) => request(`the model ${name.slice(0, 60)}`, NO_MODEL, 'GET', `/v1/models/${name}`)),
  {
    name: 'an adapter under the name of another base',
    outcome: NO_MODEL,
    send: (stack) => outcomeOf(stack, 'DELETE', `/v1/models/ft:gpt-4o:lorasmith::${stack.adapter}`),
  },
];

const queries: HostileCase[] = [
  ...[
    'limit=0',
    'limit=10001',
    'limit=1e3x',
    'limit=Infinity',
    'order=random',
    'purpose=assistants',
    'after=..%2f',
  ].map((query) => request(`files?${query}`, INVALID, 'GET', `${FILES}?${query}`)),
  request(`files?after of 1,000 characters`, INVALID, 'GET', `${FILES}?after=${'x'.repeat(1_000)}`),
  request('files?page=2', UNKNOWN, 'GET', `${FILES}?page=2`),
  ...['limit=0', 'limit=101', 'limit=-1', 'after=x', 'after=*', `after=${'x'.repeat(200)}`].flatMap((query) => [
    request(`jobs?${query.slice(0, 30)}`, INVALID, 'GET', `${JOBS}?${query}`),
    request(`events?${query.slice(0, 30)}`, INVALID, 'GET', `${JOBS}/THE-JOB/events?${query}`),
    request(`checkpoints?${query.slice(0, 30)}`, INVALID, 'GET', `${JOBS}/THE-JOB/checkpoints?${query}`),
  ]),
  request('jobs?metadata[a]=b', UNKNOWN, 'GET', `${JOBS}?metadata[a]=b`),
  request('jobs?__proto__=b', UNKNOWN, 'GET', `${JOBS}?__proto__x=b`),
  request('events?stream=true', UNKNOWN, 'GET', `${JOBS}/THE-JOB/events?stream=true`),
];

const create = (name: string, outcome: string, fields: object): HostileCase =>
  request(`job: ${name}`, outcome, 'POST', JOBS, (stack) => ({
    headers: JSON_TYPE,
    body: JSON.stringify({ model: 'tiny-llama', training_file: stack.dataset, ...fields }),
  }));
const text = (name: string, outcome: string, body: string, headers = JSON_TYPE) =>
  request(`job: ${name}`, outcome, 'POST', JOBS, { headers, body });

const creations: HostileCase[] = [
  ...['../secret.txt', '/etc/passwd', 'file-abc', '__proto__', `ds_${'0'.repeat(24)}`].flatMap((id) => [
    create(`the file ${id}`, NO_FILE, { training_file: id }),
    create(`the file for validation ${id}`, NO_FILE, { validation_file: id }),
  ]),
  ...['../secret.txt', 'gpt-4o', 'tiny-llama\u0000', 'ft:tiny-llama:x::y', `ad_${'0'.repeat(24)}`].map((model) =>
    create(`the model ${JSON.stringify(model)}`, NO_MODEL, { model }),
  ),
  create('an empty model', INVALID, { model: '' }),
  create('a model that is a list', INVALID, { model: ['tiny-llama'] }),
  create('a file that is a number', INVALID, { training_file: 1 }),
  create('dpo on rows without pairs', '400 invalid_job', { method: { type: 'dpo' } }),
  ...[-1, 0, 1e300, '3', 'AUTO', null, []].map((beta) =>
    create(`a beta of ${JSON.stringify(beta)}`, INVALID, {
      method: { type: 'dpo', dpo: { hyperparameters: { beta } } },
    }),
  ),
  create('reinforcement', INVALID, { method: { type: 'reinforcement' } }),
  create('a method of 100,000 characters', INVALID, { method: { type: 'x'.repeat(100_000) } }),
  create('a method of nothing', INVALID, { method: {} }),
  create('a grader', UNKNOWN, { method: { type: 'supervised', grader: {} } }),
  create('integrations', INVALID, { integrations: [{ type: 'wandb' }] }),
  create('integrations that are text', INVALID, { integrations: 'wandb' }),
  ...[-1, 0, 0.5, 51, 1e300, '3', 'AUTO', null, []].map((n_epochs) =>
    create(`${JSON.stringify(n_epochs)} epochs`, INVALID, { hyperparameters: { n_epochs } }),
  ),
  ...[-1, 0, 1.5, 257, '8'].map((batch_size) =>
    create(`a batch of ${JSON.stringify(batch_size)}`, INVALID, {
      method: { type: 'supervised', supervised: { hyperparameters: { batch_size } } },
    }),
  ),
  ...[-1, 0, 10_001, '1'].map((rate) =>
    create(`a rate of ${JSON.stringify(rate)}`, INVALID, { hyperparameters: { learning_rate_multiplier: rate } }),
  ),
  create('hyperparameters that are a list', INVALID, { hyperparameters: [] }),
  create('an unknown hyperparameter', UNKNOWN, { hyperparameters: { warmup: 1 } }),
  create('both places of hyperparameters', INVALID, {
    hyperparameters: {},
    method: { type: 'supervised', supervised: { hyperparameters: {} } },
  }),
  create('an empty suffix', INVALID, { suffix: '' }),
  create('a suffix of 65 characters', INVALID, { suffix: 'x'.repeat(65) }),
  create('a negative seed', INVALID, { seed: -1 }),
  create('a seed beyond 32 bits', INVALID, { seed: 2 ** 32 }),
  create('metadata that is a list', INVALID, { metadata: [] }),
  create('metadata with numbers', INVALID, { metadata: { a: 1 } }),
  create('17 pairs of metadata', INVALID, {
    metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])),
  }),
  create('a key of metadata with a line break', UNKNOWN, { metadata: { 'a\nb': 'c' } }),
  create('a field of the own API', UNKNOWN, { training: { epochs: 1 } }),
  text('empty', INVALID, ''),
  text('no JSON', '400 invalid_json', '{"model": '),
  text('__proto__', '400 invalid_json', '{"__proto__": {"model": "tiny-llama"}}'),
  text('100,000 levels', INVALID, `{"model": ${'['.repeat(100_000)}${']'.repeat(100_000)}}`),
  text('2 MB', '413 body_too_large', JSON.stringify({ model: 'x'.repeat(2_000_000) })),
  text('a form', '415 unsupported_media_type', 'model=x', { 'content-type': 'application/x-www-form-urlencoded' }),
];

const BOUNDARY = 'b';
const FORM = { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` };
const part = (disposition: string, content: string) =>
  `--${BOUNDARY}\r\ncontent-disposition: form-data; ${disposition}\r\n\r\n${content}\r\n`;
const PURPOSE = part('name="purpose"', 'fine-tune');
const ROW = '{"text": "a"}\n';
const fileOf = (content: string, name = 'a.jsonl') => part(`name="file"; filename="${name}"`, content);
const form = (name: string, outcome: string, parts: string, headers: Record<string, string> = FORM): HostileCase =>
  request(`form: ${name}`, outcome, 'POST', FILES, { headers, body: `${parts}--${BOUNDARY}--\r\n` });

const uploads: HostileCase[] = [
  form('a purpose before the file', '200', PURPOSE + fileOf(ROW)),
  form('a purpose after the file', '200', fileOf(ROW) + PURPOSE),
  form('a file name with a path', '200', PURPOSE + fileOf(ROW, '../../../secret.txt')),
  ...[
    'assistants',
    'batch',
    'vision',
    'user_data',
    'evals',
    'fine-tune-results',
    '',
    'FINE-TUNE',
    'fine-tune\u0000',
  ].map((purpose) =>
    form(`the purpose ${JSON.stringify(purpose)}`, INVALID, part('name="purpose"', purpose) + fileOf(ROW)),
  ),
  form('another purpose after the file', INVALID, fileOf(ROW) + part('name="purpose"', 'batch')),
  form('a purpose of 10,000 characters', INVALID, part('name="purpose"', 'x'.repeat(10_000)) + fileOf(ROW)),
  form('a purpose that is a file', UNKNOWN, part('name="purpose"; filename="a"', 'fine-tune') + fileOf(ROW)),
  form('no purpose', INVALID, fileOf(ROW)),
  form('no file', INVALID, PURPOSE),
  form('nothing', INVALID, ''),
  form('two files', INVALID, PURPOSE + fileOf(ROW) + fileOf(ROW)),
  form('a time to expire', UNKNOWN, PURPOSE + part('name="expires_after[seconds]"', '3600') + fileOf(ROW)),
  form('a field named __proto__', INVALID, PURPOSE + part('name="__proto__"', 'x') + fileOf(ROW)),
  form('a thousand fields', UNKNOWN, part('name="x"', 'y').repeat(1_000) + fileOf(ROW)),
  form('a file name of 129 characters', INVALID, PURPOSE + fileOf(ROW, 'x'.repeat(129))),
  form('no rows', '400 dataset_empty', PURPOSE + fileOf('')),
  form('a wrong row', '400 invalid_dataset', PURPOSE + fileOf('{"messages": 1}\n')),
  form('400,000 levels', '400 invalid_dataset', PURPOSE + fileOf('['.repeat(400_000))),
  form('a line over the limit', '400 invalid_dataset', PURPOSE + fileOf(`{"text": "${'x'.repeat(LIMITS.lineBytes)}"}`)),
  form('compressed', '415 unsupported_media_type', PURPOSE + fileOf(ROW), { ...FORM, 'content-encoding': 'gzip' }),
  form('no boundary', INVALID, PURPOSE + fileOf(ROW), { 'content-type': 'multipart/form-data' }),
  form('another boundary', INVALID, PURPOSE + fileOf(ROW), { 'content-type': 'multipart/form-data; boundary=c' }),
  request('form: cut off', INVALID, 'POST', FILES, { headers: FORM, body: PURPOSE + fileOf(ROW).slice(0, -10) }),
  request('a body of JSON as the file', '415 unsupported_media_type', 'POST', FILES, {
    headers: JSON_TYPE,
    body: '{}',
  }),
  request('a body of rows as the file', '415 unsupported_media_type', 'POST', FILES, {
    headers: { 'content-type': 'application/x-ndjson' },
    body: ROW,
  }),
  request('no body as the file', INVALID, 'POST', FILES),
  {
    name: 'form: a file above the limit',
    outcome: '413 body_too_large',
    send: (stack) => outcomeOf(stack, 'POST', FILES, { headers: FORM, body: tooLarge() }),
  },
];

async function* tooLarge(): AsyncGenerator<string> {
  yield PURPOSE;
  yield `--${BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n`;
  const rows = `{"text": "${'a'.repeat(0.9 * LIMITS.lineBytes)}"}\n`;
  for (let bytes = 0; bytes <= LIMITS.datasetBytes; bytes += rows.length) yield rows;
}

const others: HostileCase[] = [
  ...[
    '/v1/uploads',
    '/v1/fine_tuning/alpha/graders/run',
    '/v1/fine_tuning/checkpoints/x/permissions',
    '/v1/batches',
  ].map((path) => request(`POST ${path}`, '404 not_found', 'POST', path, { headers: JSON_TYPE, body: '{}' })),
  ...[FILES, JOBS].map((path) => request(`DELETE ${path}`, '405 method_not_allowed', 'DELETE', path)),
];

/** Requests for files, fine-tuning jobs and fine-tuned models, as in the OpenAI API. */
export const openaiRequests: HostileTable = {
  kind: "requests of OpenAI's API",
  cases: [...ids, ...absent, ...queries, ...creations, ...uploads, ...others],
};
