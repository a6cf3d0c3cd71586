import { outcomeOf } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';

// The puller of the hostile stack is offline: a pull that is accepted fails before it connects to anything. Where there is an
// API key, its role may not pull, and no body is looked at.

const INVALID = '400 invalid_request';

const post = (name: string, body: unknown, outcome = INVALID): HostileCase => ({
  name,
  outcome,
  send: async (stack) => {
    const found = await outcomeOf(stack, 'POST', '/model-pulls', {
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
    return stack.token !== null && (found === '403 forbidden' || found === outcome) ? outcome : found;
  },
});
const repo = (name: string, value: unknown) => post(`repo: ${name}`, { repo: value });
const revision = (name: string, value: unknown) => post(`revision: ${name}`, { repo: 'org/name', revision: value });
const modelName = (name: string, value: unknown) => post(`name: ${name}`, { repo: 'org/name', name: value });

const cases: HostileCase[] = [
  post('not JSON', '{"repo": ', '400 invalid_json'),
  post('no repo', {}),
  post('an address of a hub', { repo: 'org/name', endpoint: 'http://169.254.169.254' }, '400 unknown_field'),
  post('a token', { repo: 'org/name', token: 'hf_x' }, '400 unknown_field'),
  repo('no organisation', 'name'),
  repo('an address', 'https://example.com/x'),
  repo('an address without a scheme', '//169.254.169.254/latest'),
  repo('a port', 'localhost:6379/x'),
  repo('a user', 'user@host/x'),
  repo('two dots', '../secret.txt'),
  repo('two dots as the name', 'org/..'),
  repo('two dots, encoded', 'org/%2e%2e'),
  repo('three parts', 'a/b/c'),
  repo('a query', 'org/name?x=1'),
  repo('a fragment', 'org/name#x'),
  repo('a space', 'org/na me'),
  repo('a line break', 'org/name\r\nhost: x'),
  repo('a zero byte', 'org/name\0'),
  repo('markup', '<img/src=x>'),
  repo('a long name', `org/${'x'.repeat(97)}`),
  repo('a list', ['org/name']),
  repo('null', null),
  revision('two dots', '../../api/whoami-v2'),
  revision('two dots inside', 'refs/../../x'),
  revision('a query', 'main?x=1'),
  revision('a fragment', 'main#x'),
  revision('a percent sign', '%2e%2e'),
  revision('a space', 'a b'),
  revision('a line break', 'main\n'),
  revision('an empty text', ''),
  revision('201 characters', 'x'.repeat(201)),
  modelName('a path', '../models'),
  modelName('a hidden folder', '.pulls'),
  modelName('a slash', 'a/b'),
  modelName('an absolute path', '/etc'),
  modelName('a zero byte', 'a\0b'),
  modelName('97 characters', 'x'.repeat(97)),
  modelName('two dots', '..'),
  post('the name of a model that exists', { repo: 'org/name', name: 'tiny-llama' }, '409 conflict'),
  post('a body that is accepted', { repo: 'org/name', revision: 'refs/pr/1', name: 'hostile' }, '202'),
  ...['..%2f..%2fsecret.txt', '__proto__', `pull_${'0'.repeat(25)}`, 'x'.repeat(300)].map(
    (id): HostileCase => ({
      name: `the pull ${id.slice(0, 40)}`,
      outcome: INVALID,
      send: (stack) => outcomeOf(stack, 'GET', `/model-pulls/${id}`),
    }),
  ),
  {
    name: 'a pull that does not exist',
    outcome: '404 model_pull_not_found',
    send: (stack) => outcomeOf(stack, 'GET', `/model-pulls/pull_${'0'.repeat(24)}`),
  },
];

export const modelPulls: HostileTable = { kind: 'Pulls of models', cases };
