import { outcomeOf } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';

const INVALID = '400 invalid_request';
const REFUSED = '422 invalid_sweep';
const UNKNOWN = '400 unknown_field';
const RANKS = { 'lora.r': { values: [2, 4] } };
const range = (from: unknown, to: unknown, more: object = {}) => ({ range: { from, to, ...more } });

/** A sweep that is valid except for these fields. */
const sweep = (name: string, outcome: string, fields: object): HostileCase => ({
  name,
  outcome,
  send: (stack) =>
    outcomeOf(stack, 'POST', '/sweeps?dry_run=true', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        job: { base_model: 'tiny-llama', dataset: stack.dataset, validation: { split: 0.5 } },
        space: RANKS,
        ...fields,
      }),
    }),
});
const space = (name: string, outcome: string, fields: unknown) => sweep(`space: ${name}`, outcome, { space: fields });
const exclude = (name: string, outcome: string, entries: unknown) =>
  sweep(`exclude: ${name}`, outcome, { exclude: entries });
const at = (name: string, outcome: string, method: string, path: string): HostileCase => ({
  name,
  outcome,
  send: (stack) => outcomeOf(stack, method, path),
});
const many = (count: number, of: (index: number) => unknown) => Array.from({ length: count }, (_, i) => of(i));

const cases: HostileCase[] = [
  sweep('a valid one', '200', {}),
  sweep('no job', INVALID, { job: undefined }),
  sweep('a job that is a list', INVALID, { job: [] }),
  sweep('a job within the job', INVALID, { job: { job: {} } }),
  space('none', INVALID, undefined),
  space('empty', INVALID, {}),
  space('null', INVALID, null),
  space('a list', INVALID, [RANKS]),
  space(
    'nine fields',
    INVALID,
    Object.fromEntries(many(9, (i) => [`lora.f${i}`, { values: [1] }]) as [string, object][]),
  ),
  space('__proto__', REFUSED, { 'lora.__proto__.x': { values: [1] } }),
  space('constructor', REFUSED, { 'lora.constructor.prototype': { values: [1] } }),
  space('an inherited method', REFUSED, { 'training.toString': { values: [1] } }),
  space('a path of dots', REFUSED, { '...': { values: [1] } }),
  space('a path of 100,000 characters', REFUSED, { ['lora.'.repeat(20_000)]: { values: [1] } }),
  space('a path with a line break', UNKNOWN, { 'lora.r\n': { values: [1] } }),
  space('the dataset', REFUSED, { dataset: { values: ['../../secret.txt'] } }),
  space('the base model', REFUSED, { base_model: { values: ['../../secret.txt'] } }),
  space('the webhook', REFUSED, { 'webhook.url': { values: ['http://169.254.169.254/'] } }),
  space('an object as value', INVALID, { 'lora.rank_pattern': { values: [{ q_proj: 4 }] } }),
  space('nested lists', INVALID, { 'lora.target_modules': { values: [[['q_proj']]] } }),
  space('65 values', INVALID, { 'lora.r': { values: many(65, (i) => i + 1) } }),
  space('65 variants', REFUSED, { 'lora.r': range(1, 13, { count: 13 }), 'lora.alpha': { values: [1, 2, 3, 4, 5] } }),
  space(
    'three fields of 64 values',
    REFUSED,
    Object.fromEntries(
      ['r', 'alpha', 'dropout'].map((name) => [`lora.${name}`, { values: many(64, (i) => (i + 1) / 100) }]),
    ),
  ),
  space('a rank of 0', REFUSED, { 'lora.r': { values: [0] } }),
  space('a rank of 2^53', REFUSED, { 'lora.r': { values: [2 ** 53] } }),
  space('a range that is backwards', REFUSED, { 'lora.r': range(8, 1) }),
  space('a range of text', INVALID, { 'lora.r': range('1', '8') }),
  space('a range of 1,000 values', INVALID, { 'lora.r': range(1, 8, { count: 1_000 }) }),
  space('a log range from a negative number', REFUSED, { 'training.learning_rate': range(-1, 1, { scale: 'log' }) }),
  space('patterns of layers that are no expression, or match nothing', '200', {
    'lora.target_modules': { values: ['(?=a)', 'b'] },
  }),
  space('an expression for layers of 1,025 characters', INVALID, {
    'lora.target_modules': { values: ['a'.repeat(1_025)] },
  }),
  space('two fields that exclude each other', REFUSED, {
    'training.epochs': { values: [1] },
    'training.max_steps': { values: [1] },
  }),
  exclude(
    '65 entries',
    INVALID,
    many(65, () => ({ 'lora.r': { values: [1] } })),
  ),
  exclude('everything', REFUSED, [{ 'lora.r': { from: 1 } }]),
  exclude('a field that is not varied', REFUSED, [{ 'lora.alpha': { from: 1 } }]),
  exclude('an entry without a condition', INVALID, [{}]),
  exclude('a text', INVALID, 'lora.r'),
  sweep('random: 65 variants', INVALID, { search: 'random', variants: 65 }),
  sweep('random: more variants than there are', REFUSED, { search: 'random', variants: 3 }),
  sweep('random: a seed of 2^32', INVALID, { search: 'random', variants: 1, seed: 2 ** 32 }),
  sweep('halving: from step 0', INVALID, { halving: { first_steps: 0 } }),
  sweep('halving: from step 2^53', INVALID, { halving: { first_steps: 2 ** 53 } }),
  sweep('halving: from no step', INVALID, { halving: {} }),
  sweep('halving: after the end', '200', { halving: { first_steps: 1_000_000 } }),
  sweep('halving: of uneven steps', REFUSED, {
    halving: { first_steps: 1 },
    space: { 'training.batch_size': { values: [1, 2] } },
  }),
  sweep('an unknown search', INVALID, { search: 'code' }),
  sweep('an unknown metric', INVALID, { metric: 'os.system("x")' }),
  sweep('no adapter to publish', INVALID, { publish_best: 0 }),
  sweep('a name with an escape sequence', INVALID, { name: 'a\u001b[2J' }),
  sweep('a webhook in this network', '422 invalid_job', { webhook: { url: 'https://169.254.169.254/latest/' } }),
  sweep('a webhook that is a file', '422 invalid_job', { webhook: { url: 'file:///etc/passwd' } }),
  sweep('a webhook of 3,000 characters', INVALID, { webhook: { url: `https://a.example/${'x'.repeat(3_000)}` } }),
  sweep('an unknown field', UNKNOWN, { callback: 'http://169.254.169.254/' }),
  at('a sweep that there is not', '404 sweep_not_found', 'GET', `/sweeps/sw_${'0'.repeat(24)}`),
  at('a job as sweep', '404 sweep_not_found', 'GET', `/sweeps/job_${'0'.repeat(24)}`),
  at('a path as sweep', '404 sweep_not_found', 'GET', '/sweeps/..%2f..%2fsecret.txt'),
  at('a cancel of no sweep', '404 sweep_not_found', 'POST', '/sweeps/x/cancel'),
  at('a deletion of no sweep', '404 sweep_not_found', 'DELETE', '/sweeps/x'),
  at('events of no sweep', '404 sweep_not_found', 'GET', '/sweeps/x/events'),
  at('events of a job as sweep', '404 sweep_not_found', 'GET', `/sweeps/job_${'0'.repeat(24)}/events`),
  at('events of a path', '404 sweep_not_found', 'GET', '/sweeps/..%2f..%2fsecret.txt/events'),
  at('a list after no sweep', INVALID, 'GET', '/sweeps?after=sw_x'),
];

export const sweeps: HostileTable = { kind: 'sweeps', cases };
