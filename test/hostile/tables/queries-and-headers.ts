import { outcomeOf } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';
import type { HostileStack } from '../hostile-stack.js';

const INVALID = '400 invalid_request';
const UNKNOWN = '400 unknown_field';

const query = (path: string, text: string, outcome: string): HostileCase => ({
  name: `the query ${text.length > 60 ? `${text.slice(0, 40)}… (${text.length} characters)` : text} of ${path}`,
  outcome,
  send: (stack) =>
    outcomeOf(stack, 'GET', `${path.replace(':adapter', stack.adapter).replace(':dataset', stack.dataset)}?${text}`),
});

const queries: HostileCase[] = [
  query('/datasets', 'sha256=', INVALID),
  query('/datasets', `sha256=${'F'.repeat(64)}`, INVALID),
  query('/datasets', `sha256=${'f'.repeat(64)}&sha256=${'f'.repeat(64)}`, INVALID),
  query('/datasets', `sha256=${'f'.repeat(10_000)}`, INVALID),
  query('/jobs', 'limit=0', INVALID),
  query('/jobs', 'limit=101', INVALID),
  query('/jobs', 'limit=-1', INVALID),
  query('/jobs', 'limit=1.5', INVALID),
  query('/jobs', 'limit=NaN', INVALID),
  query('/jobs', 'limit=1e308', INVALID),
  query('/jobs', 'limit=1e400', INVALID),
  query('/jobs', 'limit=-1e400', INVALID),
  query('/jobs', 'limit=Infinity', INVALID),
  query('/jobs', 'limit=-Infinity', INVALID),
  query('/jobs', 'limit=99999999999999999999', INVALID),
  query('/jobs', 'limit=', INVALID),
  query('/jobs', 'limit=1&limit=2', INVALID),
  query('/jobs', 'limit[$gt]=1', UNKNOWN),
  query('/jobs', 'limit=%zz', INVALID),
  query('/jobs', 'after=../..', INVALID),
  query('/jobs', `after=job_${'0'.repeat(24)}`, INVALID),
  query('/jobs', `after=${'x'.repeat(65)}`, INVALID),
  query('/jobs', 'status=queued&status=failed', INVALID),
  query('/jobs', 'status=constructor', INVALID),
  query('/jobs', 'sort=constructor', INVALID),
  query('/jobs', 'sort=__proto__.x', INVALID),
  query('/jobs', 'sort=name&sort=status', INVALID),
  query('/jobs', 'q=', INVALID),
  query('/jobs', `q=${'x'.repeat(10_000)}`, INVALID),
  query('/jobs', 'q=%00', '200'),
  query('/jobs', 'q=%25d%5B%5D%28.%2A%29%2B', '200'),
  query('/jobs', `tag=${'a,'.repeat(5_000)}`, INVALID),
  query('/jobs', 'tag=,,,', '200'),
  query('/jobs', 'created_after=9999-99-99', INVALID),
  query('/jobs', 'created_before=1e308', INVALID),
  query('/adapters', 'q=%00', '200'),
  query('/adapters', 'created_after=2026-02-31T25:00:00Z', INVALID),
  query('/adapters', 'sort=name', '200'),
  query('/adapters', 'sort=constructor', INVALID),
  query('/adapters', 'sort=name&sort=bytes', INVALID),
  query('/adapters', 'order=up', INVALID),
  query('/datasets', `tag=${'x'.repeat(2_000)}`, INVALID),
  query('/jobs', '__proto__=1', UNKNOWN),
  query('/jobs', 'constructor=1&toString=2', UNKNOWN),
  query('/jobs', Array.from({ length: 1_000 }, (_, i) => `p${i}=1`).join('&'), UNKNOWN),
  query('/datasets', 'after=%00', INVALID),
  query('/datasets', 'limit=-Infinity', INVALID),
  query('/datasets', 'sort=rows', '200'),
  query('/datasets', 'sort=__proto__', INVALID),
  query('/datasets', 'sort=', INVALID),
  query('/datasets/:dataset/tokens', '', INVALID),
  query('/datasets/:dataset/tokens', 'base_model=..%2f..', INVALID),
  query('/datasets/:dataset/tokens', 'base_model=tiny-llama%00', INVALID),
  query('/datasets/:dataset/tokens', `base_model=${'x'.repeat(97)}`, INVALID),
  query('/datasets/:dataset/tokens', 'base_model=tiny-llama&base_model=tiny-llama', INVALID),
  query('/datasets/:dataset/tokens', 'base_model=tiny-llama&start=1', UNKNOWN),
  query('/datasets/:dataset/tokens', 'base_model=constructor', '404 model_not_found'),
  query('/datasets/:dataset/rows', 'limit=101', INVALID),
  query('/datasets/:dataset/rows', 'limit=0', INVALID),
  query('/datasets/:dataset/rows', 'after=-1', INVALID),
  query('/datasets/:dataset/rows', 'after=1.5', INVALID),
  query('/datasets/:dataset/rows', 'after=9007199254740993', INVALID),
  query('/datasets/:dataset/rows', 'after=9007199254740991', '200'),
  query('/datasets/:dataset/rows', 'after=1e400', INVALID),
  query('/datasets/:dataset/rows', 'base_model=..%2f..', INVALID),
  query('/datasets/:dataset/rows', 'base_model=constructor', '404 model_not_found'),
  query('/datasets/:dataset/rows', 'max_seq_length=8', INVALID),
  query('/datasets/:dataset/rows', 'base_model=tiny-llama&max_seq_length=1', INVALID),
  query('/datasets/:dataset/rows', 'base_model=tiny-llama&max_seq_length=2&on_overflow=split', '200'),
  query('/datasets/:dataset/rows', 'base_model=tiny-llama&on_overflow=__proto__', INVALID),
  query('/datasets/:dataset/rows', 'base_model=tiny-llama&chat_template=%7B%7B1%7D%7D', UNKNOWN),
  query('/adapters', 'after=..%2f..', INVALID),
  query('/adapters', 'limit=1000', INVALID),
  query('/adapters', 'limit=Infinity', INVALID),
  query('/adapters/:adapter', 'weights=evil', INVALID),
  query('/adapters/:adapter', 'format=zip', INVALID),
  query('/adapters/:adapter', 'format=tar&format=safetensors', INVALID),
  query('/adapters/:adapter', 'format=gguf&type=q4_0', INVALID),
  query('/adapters/:adapter', 'format=gguf&type=..%2f..', INVALID),
  query('/adapters/:adapter', 'format=gguf&type=f32&type=f16', INVALID),
  query('/adapters/:adapter', 'format=gguf&type=constructor', INVALID),
  query('/adapters/:adapter', 'type=f32', INVALID),
  query('/adapters/:adapter', 'format=safetensors&type=f32', INVALID),
  query('/adapters/:adapter', 'format=gguf&weights=evil', INVALID),
  query('/adapters/:adapter', 'format=gguf&name=x.gguf', UNKNOWN),
  query('/adapters/:adapter/files', 'format=tar', INVALID),
  query('/adapters/:adapter/files', 'weights=merged&type=f16', INVALID),
  query('/adapters/:adapter/files/..%2fModelfile', 'format=gguf', '404 not_found'),
  query('/adapters/:adapter/files', 'weights=..%2f', INVALID),
  query('/live', 'x'.repeat(20_000), '431 invalid_request'),
];

type Headers = Record<string, string | string[]>;

const headers = (name: string, outcome: string, path: string, given: Headers, method = 'GET'): HostileCase => ({
  name,
  outcome,
  open: path === '/live',
  send: (stack) =>
    outcomeOf(stack, method, path.replace(':job', stack.job).replace(':adapter', stack.adapter), { headers: given }),
});

const events = (id: string, outcome: string) =>
  headers(`Last-Event-ID ${id.slice(0, 30)}`, outcome, '/jobs/:job/events', {
    accept: 'application/json',
    'last-event-id': id,
  });
const range = (value: string, outcome: string) =>
  headers(`Range ${value.slice(0, 40)}`, outcome, '/adapters/:adapter/files/adapter_model.safetensors', {
    range: value,
  });

const idempotent = (name: string, key: string | string[], outcome: string, fields: object = {}): HostileCase => ({
  name: `Idempotency-Key: ${name}`,
  outcome,
  send: ({ dataset, ...stack }: HostileStack) =>
    outcomeOf(stack, 'POST', '/jobs', {
      headers: { 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify({ base_model: 'tiny-llama', dataset, ...fields }),
    }),
});

const ofRequests: HostileCase[] = [
  events('x', INVALID),
  events('-1', INVALID),
  events('$', INVALID),
  events('+', INVALID),
  events('(1-0', INVALID),
  events('1-0-0', INVALID),
  events('NaN-0', INVALID),
  events('18446744073709551616-0', INVALID),
  events('99999999999999999999999999999999', INVALID),
  events('0-0; FLUSHALL', INVALID),
  events('x'.repeat(65), INVALID),
  events('18446744073709551615-18446744073709551615', INVALID),
  range('bytes=', '200'),
  range('bytes=5-2', '200'),
  range('bytes=-', '200'),
  range('bytes=-0', '416 range_not_satisfiable'),
  range('bytes=999999999-', '416 range_not_satisfiable'),
  range('bytes=99999999999999999999-', '200'),
  range('bytes=0-99999999999999999999', '200'),
  range('bytes=-99999999999999', '206'),
  range('lines=1-2', '200'),
  range(`bytes=${Array.from({ length: 1_000 }, (_, i) => `${i}-${i}`).join(',')}`, '200'),
  range('bytes=0-0,0-0,0-0,0-0', '200'),
  range('bytes=0x0-0xff', '200'),
  headers('If-Range with an invalid tag', '200', '/adapters/:adapter', { 'if-range': '"', range: 'bytes=0-1' }),
  headers('8,000 characters of If-None-Match', '200', '/adapters/:adapter', { 'if-none-match': '"x",'.repeat(2_000) }),
  idempotent('256 characters', 'k'.repeat(256), INVALID),
  idempotent('a space', 'a b', INVALID),
  idempotent('a character outside ASCII', 'caf\u00e9', INVALID),
  idempotent('empty', '', INVALID),
  idempotent('two values', ['a', 'b'], INVALID),
  idempotent('one that was used for another request', 'the-first', '409 idempotency_conflict', { name: 'another' }),
  headers('a request id that imitates a log field', '200', '/live', { 'x-request-id': 'a" level="fatal' }),
  headers('a request id of 4,000 characters', '200', '/live', { 'x-request-id': 'x'.repeat(4_000) }),
  headers('20 KB of cookies', '431 invalid_request', '/live', { cookie: 'a=b;'.repeat(5_000) }),
  headers('an unknown API key', '401 unauthorized', '/jobs', { authorization: `Bearer lsk_${'x'.repeat(60)}` }),
  headers('an invalid API key', '401 unauthorized', '/jobs', { authorization: 'Bearer ../../etc' }),
  headers('another kind of authorization', '401 unauthorized', '/jobs', { authorization: 'Basic cm9vdDpyb290' }),
  headers('no key, after requests with wrong keys', '200', '/jobs', {}),
  headers('another host', '200', '/live', { host: 'evil.example' }),
  headers('forwarded for root', '200', '/live', { 'x-forwarded-for': '127.0.0.1', forwarded: 'for="_root"' }),
  headers('a method override', '404 adapter_not_found', `/adapters/ad_${'0'.repeat(24)}`, {
    'x-http-method-override': 'DELETE',
  }),
  headers('an upgrade to a socket', '200', '/live', { connection: 'upgrade', upgrade: 'websocket' }),
  headers('Keep-Alive that Connection does not name', '200', '/adapters', { 'keep-alive': 'timeout=5' }),
  headers('Upgrade that Connection does not name', '200', '/adapters', { upgrade: 'h2c' }),
  headers('Proxy-Connection and TE', '200', '/adapters', {
    'proxy-connection': 'keep-alive',
    te: 'trailers, deflate',
  }),
  headers('an unknown expectation', '417 invalid_request', '/live', { expect: 'the-impossible' }),
  headers('a long and invalid Accept', '200', '/live', { accept: `${'*/*;q=0.0000001,'.repeat(400)}x` }),
];

const methods: HostileCase[] = [
  ['TRACE', '/live', '405 method_not_allowed'],
  ['PROPFIND', '/jobs', '405 method_not_allowed'],
  ['PATCH', '/jobs', '405 method_not_allowed'],
  ['OPTIONS', '/jobs', '405 method_not_allowed'],
  ['PUT', '/adapters', '405 method_not_allowed'],
  ['DELETE', '/jobs', '405 method_not_allowed'],
  ['DELETE', '/models/tiny-llama', '405 method_not_allowed'],
  ['POST', '/live', '405 method_not_allowed'],
  ['POST', '/jobs/:job/events', '405 method_not_allowed'],
  ['POST', '/nothing', '404 not_found'],
].map(([method, path, outcome]) => headers(`${method} ${path}`, outcome!, path!, {}, method));

export const queriesAndHeaders: HostileTable = {
  kind: 'queries, headers and methods',
  cases: [...queries, ...ofRequests, ...methods],
};
