import { outcomeOf, raw } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';

/** Placeholder for the id of the existing job. */
const JOB = 'THE-JOB';

/** Hostile values for an id or a name, as written in the path. */
const WRITTEN: [name: string, written: string][] = [
  ['two dots', '..'],
  ['two dots, encoded', '%2e%2e'],
  ['two dots, encoded twice', '%252e%252e'],
  ['a path traversal, encoded', '..%2f..%2fsecret.txt'],
  ['a path traversal, encoded twice', '..%252f..%252fsecret.txt'],
  ['a path traversalwith backslashes', '..%5c..%5csecret.txt'],
  ['dots in overlong UTF-8', '%c0%ae%c0%ae%c0%af'],
  ['an absolute path, encoded', '%2fetc%2fpasswd'],
  ['a zero byte', 'x%00.json'],
  ['a line break', 'x%0d%0aset-cookie:%20a=b'],
  ['a property of JavaScript', '__proto__'],
  ['a method of every JavaScript object', 'toString'],
  ['a glob', '*'],
  ['the key of a stream in Redis', `${JOB}:events`],
  ['the key of a cleanup mark in Redis', `${JOB}:cleanup`],
  ['dollar signs of replacement patterns', '$%26$%60$1'],
  ['full-width dots', '%ef%bc%8e%ef%bc%8e%ef%bc%8f'],
  ['emoji', '%f0%9f%92%a3'],
  ['a well-formed id in capitals', 'DS_0123456789ABCDEF01234567'],
  ['400 characters', 'x'.repeat(400)],
  ['9,000 characters', 'x'.repeat(9_000)],
];

/** Values that cannot be decoded as UTF-8. */
const MALFORMED = ['dots in overlong UTF-8'];

interface Route {
  what: string;
  method: string;
  path: (written: string) => string;
  /** The error code for an unknown id. */
  absent: string;
  /** Maximum length of an id. */
  maxLength: number;
}

const ROUTES: Route[] = [
  { what: 'dataset', method: 'GET', path: (id) => `/datasets/${id}`, absent: 'dataset_not_found', maxLength: 200 },
  {
    what: 'dataset to delete',
    method: 'DELETE',
    path: (id) => `/datasets/${id}`,
    absent: 'dataset_not_found',
    maxLength: 200,
  },
  {
    what: 'dataset with tokens',
    method: 'GET',
    path: (id) => `/datasets/${id}/tokens?base_model=tiny-llama`,
    absent: 'dataset_not_found',
    maxLength: 200,
  },
  {
    what: 'dataset with rows',
    method: 'GET',
    path: (id) => `/datasets/${id}/rows?base_model=tiny-llama`,
    absent: 'dataset_not_found',
    maxLength: 200,
  },
  { what: 'job', method: 'GET', path: (id) => `/jobs/${id}`, absent: 'job_not_found', maxLength: 200 },
  {
    what: 'job with events',
    method: 'GET',
    path: (id) => `/jobs/${id}/events`,
    absent: 'job_not_found',
    maxLength: 200,
  },
  { what: 'job to delete', method: 'DELETE', path: (id) => `/jobs/${id}`, absent: 'job_not_found', maxLength: 200 },
  {
    what: 'job to cancel',
    method: 'POST',
    path: (id) => `/jobs/${id}/cancel`,
    absent: 'job_not_found',
    maxLength: 200,
  },
  {
    what: 'job with checkpoints',
    method: 'GET',
    path: (id) => `/jobs/${id}/checkpoints`,
    absent: 'job_not_found',
    maxLength: 200,
  },
  { what: 'adapter', method: 'GET', path: (id) => `/adapters/${id}`, absent: 'adapter_not_found', maxLength: 200 },
  {
    what: 'adapter to delete',
    method: 'DELETE',
    path: (id) => `/adapters/${id}`,
    absent: 'adapter_not_found',
    maxLength: 200,
  },
  {
    what: 'name of an adapter',
    method: 'GET',
    path: (name) => `/aliases/${name}`,
    absent: 'alias_not_found',
    maxLength: 200,
  },
  {
    what: 'name of an adapter to roll back',
    method: 'POST',
    path: (name) => `/aliases/${name}/rollback`,
    absent: 'alias_not_found',
    maxLength: 200,
  },
  {
    what: 'name of an adapter to delete',
    method: 'DELETE',
    path: (name) => `/aliases/${name}`,
    absent: 'alias_not_found',
    maxLength: 200,
  },
  { what: 'base model', method: 'GET', path: (name) => `/models/${name}`, absent: 'model_not_found', maxLength: 200 },
];

const inRoutes: HostileCase[] = ROUTES.flatMap(({ what, method, path, absent, maxLength }) =>
  WRITTEN.map(([name, written]) => ({
    name: `${name} as the ${what}`,
    outcome: MALFORMED.includes(name)
      ? '400 invalid_request'
      : written.length > 512
        ? '404 not_found'
        : written.length > maxLength
          ? '400 invalid_request'
          : `404 ${absent}`,
    send: (stack) => outcomeOf(stack, method, path(written.replace(JOB, stack.job))),
  })),
);

const fileNames: [string, string, string?][] = [
  ['two dots', '..'],
  ['a path traversal, encoded', '..%2f..%2f..%2fsecret.txt'],
  ['a path traversal, encoded twice', '..%252f..%252f..%252fsecret.txt'],
  ['an absolute path', '%2fetc%2fpasswd'],
  ['a zero byte', 'manifest.json%00.txt'],
  ['another case', 'MANIFEST.JSON'],
  ['a stream name of Windows', 'manifest.json::$DATA'],
  ['a path within the folder', '.%2fmanifest.json'],
  ['a trailing dot', 'manifest.json.'],
];

const ofAdapter: HostileCase[] = fileNames.map(([name, written]) => ({
  name: `${name} as the file of an adapter`,
  outcome: '404 not_found',
  send: (stack) => outcomeOf(stack, 'GET', `/adapters/${stack.adapter}/files/${written}`),
}));

/** Not `..` as it is written: that is another route, which needs a key. */
const ofPage: HostileCase[] = fileNames.slice(1).map(([name, written]) => ({
  name: `${name} as a file of the page`,
  outcome: '404 not_found',
  open: true,
  send: (stack) => outcomeOf(stack, 'GET', `/assets/${written}`),
}));

const wholePaths: HostileCase[] = [
  ['a path traversal', '/../../../secret.txt', '404 not_found'],
  ['a path traversal below a route', '/datasets/../../secret.txt', '404 not_found'],
  ['a path traversal to the metrics', '/adapters/../metrics', '404 not_found'],
  ['a double slash', '//etc/passwd', '404 not_found'],
  ['an invalid escape', '/datasets/%zz', '400 invalid_request'],
  ['an incomplete escape', '/datasets/%2', '400 invalid_request'],
  ['a path traversal from the documentation', '/docs/static/..%2f..%2f..%2fpackage.json', '404 not_found'],
  [
    'a path traversal from the documentation, encoded twice',
    '/docs/static/..%252f..%252fpackage.json',
    '404 not_found',
  ],
  ['no leading slash', 'datasets', '400 invalid_request'],
  ['an address of another host', 'http://169.254.169.254/latest/meta-data', '404 not_found'],
  ['a fragment', '/live#/../x', '200'],
  ['a matrix parameter', '/live;a=b', '404 not_found'],
].map(([name, path, outcome]) => ({
  name: `${name}: ${path}`,
  outcome: outcome!,
  open: path!.startsWith('/live#'),
  send: (stack) => outcomeOf(stack, 'GET', path!),
}));

const rawPaths: HostileCase[] = [
  {
    name: 'a path with a space',
    outcome: '400 invalid_request',
    send: (stack) => raw(stack, 'GET /jobs/a b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'),
  },
  {
    name: 'a path with a byte above 127',
    outcome: '400 invalid_request',
    send: (stack) =>
      raw(stack, Buffer.from('GET /jobs/\xff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n', 'latin1')),
  },
  {
    name: 'a path with a zero byte',
    outcome: '400 invalid_request',
    send: (stack) => raw(stack, 'GET /jobs/\0 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'),
  },
];

export const pathsAndIds: HostileTable = {
  kind: 'paths and ids',
  cases: [...inRoutes, ...ofAdapter, ...ofPage, ...wholePaths, ...rawPaths],
};
