import { outcomeOf } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';

// The hostile stack delivers nowhere: whatever is well-formed is refused by the settings, and no address is called.

const INVALID = '400 invalid_request';
const UNKNOWN_FIELD = '400 unknown_field';
const NOWHERE = '422 invalid_delivery';

const post = (name: string, body: unknown, outcome = INVALID): HostileCase => ({
  name,
  outcome,
  send: (stack) =>
    outcomeOf(stack, 'POST', `/adapters/${stack.adapter}/deliveries`, {
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    }),
});
const vllm = { kind: 'vllm', url: 'http://127.0.0.1:8000', name: 'dates' };
const url = (name: string, value: unknown, outcome = NOWHERE) => post(`url: ${name}`, { ...vllm, url: value }, outcome);
const place = (name: string, value: unknown) => post(`name: ${name}`, { kind: 'folder', name: value });
const hub = { kind: 'hub', repository: 'org/dates' };
const guarded = (dataset: string) => ({ kind: 'name', name: 'bot', guard: { dataset, metric: 'loss', max_worse: 0 } });
const s3 = { kind: 's3', bucket: 'models', prefix: 'dates' };
const token = (name: string, value: unknown, outcome = INVALID): HostileCase => ({
  name: `a token: ${name}`,
  outcome,
  send: (stack) =>
    outcomeOf(stack, 'PUT', '/hub-token', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(value),
    }),
});
const inJob = (name: string, deliver: unknown, outcome = INVALID): HostileCase => ({
  name: `in a job: ${name}`,
  outcome,
  send: (stack) =>
    outcomeOf(stack, 'POST', '/jobs?dry_run=true', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ base_model: 'tiny-llama', dataset: stack.dataset, deliver }),
    }),
});

const cases: HostileCase[] = [
  post('not JSON', '{"kind": ', '400 invalid_json'),
  post('no kind', {}),
  post('an unknown kind', { kind: 'ftp', url: 'ftp://127.0.0.1', name: 'x' }),
  post('a kind of the prototype', { kind: '__proto__', name: 'x' }),
  post('a kind of every object', { kind: 'constructor', name: 'x' }),
  post('a key of a server', { ...vllm, api_key: 'secret' }, UNKNOWN_FIELD),
  post('a path of files', { ...vllm, lora_path: '/etc' }, UNKNOWN_FIELD),
  post('a list', [vllm]),
  url('a server that is not listed', 'http://127.0.0.1:8000'),
  url('the metadata of a cloud', 'http://169.254.169.254/latest/meta-data'),
  url('Redis', 'http://localhost:6379'),
  url('a file', 'file:///etc/passwd'),
  url('a user and a password', 'http://user:password@127.0.0.1:8000'),
  url('a query', 'http://127.0.0.1:8000?x=1'),
  url('a line break', 'http://127.0.0.1:8000\r\nhost: x'),
  url('no address', 'not an address'),
  url('2,049 characters', `http://127.0.0.1/${'x'.repeat(2_032)}`, INVALID),
  url('a number', 8000, INVALID),
  url('null', null, INVALID),
  place('a path', '../up'),
  place('an absolute path', '/etc'),
  place('a hidden folder', '.staging'),
  place('two dots', '..'),
  place('a slash', 'a/b'),
  place('a zero byte', 'a\0b'),
  place('97 characters', 'x'.repeat(97)),
  place('an empty text', ''),
  post('a folder, where there is none', { kind: 'folder', name: 'dates' }, NOWHERE),
  post('a repository with three parts', { ...hub, repository: 'a/b/c' }),
  post('a repository above', { ...hub, repository: '../../api/models' }),
  post('a repository with a query', { ...hub, repository: 'org/x?create_pr=1' }),
  post('a repository with a line break', { ...hub, repository: 'org/x\r\nhost: y' }),
  post('a branch above', { ...hub, revision: '../main' }),
  post('a branch of 201 characters', { ...hub, revision: 'x'.repeat(201) }),
  post('another hub', { ...hub, endpoint: 'http://169.254.169.254' }, UNKNOWN_FIELD),
  post('a token in a delivery', { ...hub, token: 'hf_0123456789' }, UNKNOWN_FIELD),
  post('merged as a text', { ...hub, merged: 'true' }),
  post('the hub, where no secrets are stored', hub, NOWHERE),
  post('a bucket that is not listed', s3, NOWHERE),
  post('a bucket with a path', { ...s3, bucket: 'models/../other' }),
  post('a bucket as an address', { ...s3, bucket: '127.0.0.1:9000/models' }),
  post('a prefix above', { ...s3, prefix: '../other' }),
  post('a prefix with an empty part', { ...s3, prefix: 'a//b' }),
  post('an absolute prefix', { ...s3, prefix: '/a' }),
  post('a prefix of 257 characters', { ...s3, prefix: 'x'.repeat(257) }),
  post('an endpoint of a bucket', { ...s3, endpoint: 'http://127.0.0.1:9000' }, UNKNOWN_FIELD),
  post('a name with a path', { kind: 'name', name: '../up' }),
  post('a name that begins as an id', { kind: 'name', name: 'ad_x' }),
  post('the name of a base model', { kind: 'name', name: 'tiny-llama' }, '409 conflict'),
  post('a guard without a dataset', { kind: 'name', name: 'bot', guard: { metric: 'loss', max_worse: 0 } }),
  post('a guard of a dataset that does not exist', guarded(`ds_${'0'.repeat(24)}`), '404 dataset_not_found'),
  post('a guard that nothing passes', { kind: 'name', name: 'bot', guard: { ...guarded('x').guard, max_worse: -1 } }),
  inJob('the name of a base model', [{ kind: 'name', name: 'tiny-llama' }], '422 invalid_job'),
  inJob('a guard of a dataset that does not exist', [guarded(`ds_${'0'.repeat(24)}`)], '422 invalid_job'),
  token('none', {}),
  token('an object', { token: { $ne: '' } }),
  token('a line break', { token: 'hf_0123456789\r\nhost: x' }),
  token('501 characters', { token: 'x'.repeat(501) }),
  token('an owner of it', { token: 'hf_0123456789', owner: 'key_0123456789abcdef01234567' }, '400 unknown_field'),
  token('where no secrets are stored', { token: 'hf_0123456789' }, '422 invalid_delivery'),
  {
    name: 'the events of a delivery that does not exist',
    outcome: '404 delivery_not_found',
    send: (stack) => outcomeOf(stack, 'GET', `/deliveries/dl_${'0'.repeat(24)}/events`),
  },
  inJob('no list', vllm),
  inJob('an empty list', []),
  inJob(
    'nine of them',
    Array.from({ length: 9 }, (_, i) => ({ kind: 'folder', name: `f${i}` })),
  ),
  inJob('one with a secret', [{ ...vllm, token: 'x' }], UNKNOWN_FIELD),
  inJob('a server that is not listed', [vllm], '422 invalid_job'),
  ...['..%2f..%2fsecret.txt', '__proto__', `dl_${'0'.repeat(25)}`, 'x'.repeat(200)].map(
    (id): HostileCase => ({
      name: `the delivery ${id.slice(0, 40)}`,
      outcome: '404 delivery_not_found',
      send: (stack) => outcomeOf(stack, 'GET', `/deliveries/${id}`),
    }),
  ),
  {
    name: 'the deliveries of an adapter with a path as its id',
    outcome: '404 adapter_not_found',
    send: (stack) => outcomeOf(stack, 'GET', '/adapters/..%2f..%2fsecret.txt/deliveries'),
  },
  {
    name: 'a cancel of a delivery that does not exist',
    outcome: '404 delivery_not_found',
    send: (stack) => outcomeOf(stack, 'POST', `/deliveries/dl_${'0'.repeat(24)}/cancel`),
  },
];

export const deliveries: HostileTable = { kind: 'Deliveries', cases };
