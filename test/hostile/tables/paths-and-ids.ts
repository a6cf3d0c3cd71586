import { outcomeOf, raw } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';

/** Stands for the id of the job that there is. */
const JOB = 'THE-JOB';

/** What stands where an id or a name belongs, as it is written in the request. */
const WRITTEN: [name: string, written: string][] = [
  ['two dots', '..'],
  ['two dots, encoded', '%2e%2e'],
  ['two dots, encoded twice', '%252e%252e'],
  ['a path that climbs, encoded', '..%2f..%2fsecret.txt'],
  ['a path that climbs, encoded twice', '..%252f..%252fsecret.txt'],
  ['a path that climbs, by backslashes', '..%5c..%5csecret.txt'],
  ['dots in overlong UTF-8', '%c0%ae%c0%ae%c0%af'],
  ['an absolute path, encoded', '%2fetc%2fpasswd'],
  ['a zero byte', 'x%00.json'],
  ['a line break', 'x%0d%0aset-cookie:%20a=b'],
  ['a name of JavaScript', '__proto__'],
  ['a name of every object', 'toString'],
  ['a glob', '*'],
  ['the key of a stream in Redis', `${JOB}:events`],
  ['the key of a mark in Redis', `${JOB}:cleanup`],
  ['dollars, which replacements have', '$%26$%60$1'],
  ['dots of full width', '%ef%bc%8e%ef%bc%8e%ef%bc%8f'],
  ['emoji', '%f0%9f%92%a3'],
  ['the id of nothing, in capitals', 'DS_0123456789ABCDEF01234567'],
  ['400 characters', 'x'.repeat(400)],
  ['9,000 characters', 'x'.repeat(9_000)],
];

/** Not UTF-8, or no encoding at all: there is no path to look for. */
const MALFORMED = ['dots in overlong UTF-8'];

interface Place {
  what: string;
  method: string;
  path: (written: string) => string;
  /** Of an id that is well-formed or not, and of nothing. */
  absent: string;
  /** From which length on a path is no longer looked for. */
  maxLength: number;
}

const PLACES: Place[] = [
  { what: 'dataset', method: 'GET', path: (id) => `/datasets/${id}`, absent: 'dataset_not_found', maxLength: 200 },
  {
    what: 'dataset to delete',
    method: 'DELETE',
    path: (id) => `/datasets/${id}`,
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
  { what: 'base model', method: 'GET', path: (name) => `/models/${name}`, absent: 'model_not_found', maxLength: 200 },
];

const inPlaces: HostileCase[] = PLACES.flatMap(({ what, method, path, absent, maxLength }) =>
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
  ['a path that climbs, encoded', '..%2f..%2f..%2fsecret.txt'],
  ['a path that climbs, encoded twice', '..%252f..%252f..%252fsecret.txt'],
  ['an absolute path', '%2fetc%2fpasswd'],
  ['a zero byte', 'manifest.json%00.txt'],
  ['another case', 'MANIFEST.JSON'],
  ['an ending of Windows', 'manifest.json::$DATA'],
  ['a stream of the folder', '.%2fmanifest.json'],
  ['a trailing dot', 'manifest.json.'],
];

const ofAdapter: HostileCase[] = fileNames.map(([name, written]) => ({
  name: `${name} as the file of an adapter`,
  outcome: '404 not_found',
  send: (stack) => outcomeOf(stack, 'GET', `/adapters/${stack.adapter}/files/${written}`),
}));

const wholePaths: HostileCase[] = [
  ['a path that climbs', '/../../../secret.txt', '404 not_found'],
  ['a path that climbs below a route', '/datasets/../../secret.txt', '404 not_found'],
  ['a climb back into the registry', '/adapters/../metrics', '404 not_found'],
  ['a double slash', '//etc/passwd', '404 not_found'],
  ['an escape that is none', '/datasets/%zz', '400 invalid_request'],
  ['half an escape', '/datasets/%2', '400 invalid_request'],
  ['a climb out of the documentation', '/docs/static/..%2f..%2f..%2fpackage.json', '404 not_found'],
  ['a climb out of the documentation, encoded twice', '/docs/static/..%252f..%252fpackage.json', '404 not_found'],
  ['no slash in front', 'datasets', '400 invalid_request'],
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
  cases: [...inPlaces, ...ofAdapter, ...wholePaths, ...rawPaths],
};
