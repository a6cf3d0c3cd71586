import { outcomeOf } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';
import type { HostileStack } from '../hostile-stack.js';

// The hostile stack names no server of judges: whatever is well-formed is refused by the settings, and no address is called.

const INVALID = '400 invalid_request';
const REFUSED = '422 invalid_comparison';
const JUDGE = { model: 'tiny-llama', rubric: 'The better one.' };

const post = (name: string, bodyOf: unknown | ((stack: HostileStack) => unknown), outcome = INVALID): HostileCase => ({
  name,
  outcome,
  send(stack) {
    const body: unknown = typeof bodyOf === 'function' ? bodyOf(stack) : bodyOf;
    return outcomeOf(stack, 'POST', '/comparisons', {
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  },
});
const changed = (name: string, changes: object, outcome = INVALID) =>
  post(
    name,
    ({ adapter, dataset }: HostileStack) => ({ models: [adapter, 'tiny-llama'], dataset, judge: JUDGE, ...changes }),
    outcome,
  );
const judge = (name: string, changes: object, outcome = REFUSED) =>
  changed(`judge: ${name}`, { judge: { ...JUDGE, ...changes } }, outcome);
const url = (name: string, value: unknown, outcome = REFUSED) => judge(`url: ${name}`, { url: value }, outcome);

const cases: HostileCase[] = [
  post('not JSON', '{"models": [', '400 invalid_json'),
  post('nothing', {}),
  post('a list', []),
  changed('three models', { models: ['tiny-llama', 'tiny-llama', 'tiny-llama'] }),
  changed('a model against itself', { models: ['tiny-llama', 'tiny-llama'] }, REFUSED),
  changed('a path as a model', { models: ['../../etc/passwd', 'tiny-llama'] }, '404 model_not_found'),
  changed('the prototype as a model', { models: ['__proto__', 'tiny-llama'] }, '404 model_not_found'),
  changed('a model of 201 characters', { models: ['x'.repeat(201), 'tiny-llama'] }),
  changed('numbers as models', { models: [1, 2] }),
  changed('answers that do not exist', { models: [`ds_${'0'.repeat(24)}`, 'tiny-llama'] }, '404 dataset_not_found'),
  changed('a path as the dataset', { dataset: '../../secret' }),
  changed('a dataset that does not exist', { dataset: `ds_${'0'.repeat(24)}` }, '404 dataset_not_found'),
  changed('no row', { rows: 0 }),
  changed('10,000 rows', { rows: 10_000 }),
  changed('half a row', { rows: 0.5 }),
  changed('many tokens', { max_tokens: 1e9 }),
  changed('a temperature below 0', { temperature: -1 }),
  changed('a seed beyond whole numbers', { seed: 1e300 }),
  changed('an unknown field', { owner: 'key_0123456789abcdef01234567' }, '400 unknown_field'),
  changed('no judge', { judge: null }),
  judge('a key', { api_key: 'secret' }, '400 unknown_field'),
  judge('no rubric', { rubric: '' }, INVALID),
  judge('a rubric of 4,097 characters', { rubric: 'x'.repeat(4_097) }, INVALID),
  judge('a rubric with an unknown place', { rubric: '{{constructor}}' }),
  judge('a pattern that takes exponential time elsewhere', { pattern: '(a+)+$', url: 'http://127.0.0.1:6379' }),
  judge('a pattern of many counts', { pattern: '(a{1000}){1000}' }),
  judge('a model that does not exist', { model: '../up' }),
  judge('a time of no end', { timeout_seconds: 1e9 }, INVALID),
  url('a server that is not listed', 'https://api.openai.com/v1'),
  url('the metadata of a cloud', 'http://169.254.169.254/latest'),
  url('Redis', 'http://localhost:6379'),
  url('a file', 'file:///etc/passwd'),
  url('a line break', 'http://127.0.0.1\r\nhost: x'),
  url('2,049 characters', `http://127.0.0.1/${'x'.repeat(2_032)}`, INVALID),
  url('a number', 8000, INVALID),
  ...['..%2f..%2fsecret.txt', '__proto__', `cmp_${'0'.repeat(25)}`, 'x'.repeat(200)].map(
    (id): HostileCase => ({
      name: `the comparison ${id.slice(0, 40)}`,
      outcome: '404 comparison_not_found',
      send: (stack) => outcomeOf(stack, 'GET', `/comparisons/${id}/rows`),
    }),
  ),
  {
    name: 'rows after a text',
    outcome: INVALID,
    send: (stack) => outcomeOf(stack, 'GET', `/comparisons/cmp_${'0'.repeat(24)}/rows?after=x`),
  },
  {
    name: 'a list after an adapter',
    outcome: INVALID,
    send: (stack) => outcomeOf(stack, 'GET', `/comparisons?after=${stack.adapter}`),
  },
  {
    name: 'a deletion of a comparison that does not exist',
    outcome: '404 comparison_not_found',
    send: (stack) => outcomeOf(stack, 'DELETE', `/comparisons/cmp_${'0'.repeat(24)}`),
  },
];

export const comparisons: HostileTable = { kind: 'Comparisons', cases };
