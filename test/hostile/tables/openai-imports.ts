import { outcomeOf } from '../ask.js';
import type { HostileCase, HostileTable } from '../hostile-case.js';

// The hostile stack allows one address alone, and no case names it: nothing is called.

const INVALID = '400 invalid_request';
const FORBIDDEN = '403 forbidden';
const ELSEWHERE = 'http://127.0.0.1:9/v1';

const post = (name: string, outcome: string, body: unknown): HostileCase => ({
  name,
  outcome,
  send: (stack) =>
    outcomeOf(stack, 'POST', '/imports/openai', {
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    }),
});
/** A body that is valid except for these fields. */
const field = (name: string, outcome: string, fields: object) =>
  post(name, outcome, { base_model: 'tiny-llama', base_url: ELSEWHERE, ...fields });
const address = (base_url: unknown, outcome = FORBIDDEN) =>
  field(`address: ${String(base_url).slice(0, 60)}`, outcome, { base_url });
const key = (name: string, api_key: unknown, outcome = INVALID) => field(`key: ${name}`, outcome, { api_key });
const jobs = (name: string, value: unknown, outcome = INVALID) => field(`jobs: ${name}`, outcome, { jobs: value });

const cases: HostileCase[] = [
  post('not JSON', '400 invalid_json', '{"api_key": "sk-'),
  post('__proto__', '400 invalid_json', '{"__proto__": {"base_url": "http://127.0.0.1"}}'),
  post('nothing', INVALID, {}),
  post('a list', INVALID, []),
  field('an unknown field', '400 unknown_field', { proxy: ELSEWHERE }),
  field('a base model that is a path', INVALID, { base_model: '../x' }),
  field('a number of answers that is none', INVALID, { record_answers: 0 }),
  field('too many answers', INVALID, { record_answers: 1_001 }),
  field('a dry run that is a text', INVALID, { dry_run: 'no' }),
  address(ELSEWHERE),
  address('http://169.254.169.254/latest/meta-data'),
  address('http://localhost:6379/'),
  address('http://[::1]:8081/adapters'),
  address('http://2130706433/v1'),
  address('https://api.openai.com/v1'),
  address('https://import.invalid/v1/x'),
  address('http://import.invalid/v1'),
  address('https://api.openai.com.evil.example/v1'),
  address('https://api.openai.com/v1/../../x'),
  address('https://api.openai.com:444/v1'),
  address('https://api.openai.com@127.0.0.1/v1', INVALID),
  address('https://api.openai.com/v1?x=http://127.0.0.1', INVALID),
  address('https://api.openai.com/v1#x', INVALID),
  address('file:///etc/passwd', INVALID),
  address('javascript:alert(1)', INVALID),
  address('//127.0.0.1/v1', INVALID),
  address('', INVALID),
  address(`https://${'x'.repeat(2_048)}/v1`, INVALID),
  address(7, INVALID),
  key('a line break', 'sk-a\r\nhost: x'),
  key('a zero byte', 'sk-\0'),
  key('empty', ''),
  key('a letter beyond ASCII', 'sk-ä'),
  key('513 characters', 'x'.repeat(513)),
  key('a list', ['sk-a']),
  key('null, which is none', null, FORBIDDEN),
  jobs('none', []),
  jobs('a path', ['../files']),
  jobs('a query', ['ftjob-1?limit=1']),
  jobs('a long id', ['x'.repeat(41)]),
  jobs('an id twice', ['ftjob-1', 'ftjob-1']),
  jobs(
    'too many',
    Array.from({ length: 1_001 }, (_, i) => `ftjob-${i}`),
  ),
  jobs('a text', 'ftjob-1'),
];

export const openaiImports: HostileTable = { kind: 'Imports from OpenAI', cases };
