import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { runKeyCommand } from '../src/access/key-commands.js';
import { KeyStore } from '../src/access/key-store.js';

let server: RealRedis;
let redis: Redis;
let keys: KeyStore;
let round = 0;

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url);
});
afterAll(async () => {
  await redis.quit();
  await server.stop();
});
beforeEach(() => {
  keys = new KeyStore({ redis, prefix: `${server.prefix}${round++}:` });
});

async function run(...args: string[]) {
  let [output, errorOutput] = ['', ''];
  const code = await runKeyCommand({
    args,
    keys,
    output: { write: (text) => (output += text) },
    errorOutput: { write: (text) => (errorOutput += text) },
  });
  return { code, output, errorOutput };
}

test('a key is created and shown once, listed without its secret, and revoked', async () => {
  const made = await run('create', '--name', 'build server', '--role', 'train');
  expect([made.code, made.errorOutput]).toEqual([0, '']);
  const [token = ''] = /^lsk_\S+$/m.exec(made.output) ?? [];
  expect(await keys.check(token)).toMatchObject({ type: 'valid', key: { name: 'build server', role: 'train' } });
  const list = await run('list');
  const [id = ''] = /key_[0-9a-f]{24}/.exec(list.output) ?? [];
  expect(list.output).toMatch(new RegExp(`^${id}  build server  train  itself `, 'm'));
  expect(list.output).not.toContain(token.slice(-43));
  expect((await run('revoke', id)).output).toMatch(/\d{4}-\d\d-\d\dT[\d:]+$/m);
  expect(await keys.check(token)).toEqual({ type: 'invalid' });
});

test('--json prints JSON', async () => {
  const made = JSON.parse((await run('create', '--name', 'a', '--role', 'admin', '--json')).output);
  expect(made).toMatchObject({
    role: 'admin',
    owner: made.id,
    revoked_at: null,
    token: expect.stringMatching(/^lsk_/),
  });
  const limits = ['--requests-per-minute', '5', '--active-jobs', '0', '--dataset-bytes', '100', '--adapter-bytes', '7'];
  const second = JSON.parse(
    (await run('create', '--name', 'b', '--role', 'read', '--owner', made.id, '--json', ...limits)).output,
  );
  expect(second).toMatchObject({
    owner: made.id,
    limits: { requests_per_minute: 5, active_jobs: 0, dataset_bytes: 100, adapter_bytes: 7 },
  });
  expect(JSON.parse((await run('list', '--json')).output)).toHaveLength(2);
});

test("a key has a weight, which can be changed; one that acts for another key has that key's", async () => {
  const made = JSON.parse((await run('create', '--name', 'a', '--role', 'train', '--weight', '2.5', '--json')).output);
  expect(made.weight).toBe(2.5);
  const other = JSON.parse(
    (await run('create', '--name', 'b', '--role', 'train', '--owner', made.id, '--json')).output,
  );
  expect((await run('weight', made.id, '0.01')).output).toMatch(/ itself {2}0\.01 /);
  expect((await keys.list()).map(({ weight }) => weight)).toEqual([0.01, 0.01]);
  const refused = await run('weight', other.id, '3');
  expect([refused.code, refused.errorOutput]).toEqual([1, expect.stringContaining(`belongs to ${made.id}`)]);
  for (const weight of ['0', '0.001', '100.5', '-1', '1e1', 'Infinity', '', '2,5']) {
    const wrong = await run('weight', made.id, weight);
    expect([wrong.code !== 0, (await keys.list())[0]!.weight]).toEqual([true, 0.01]);
  }
});

test('a key that replaces one that has replaced another has the things of the first', async () => {
  const create = async (...args: string[]) => {
    const made = await run('create', '--name', 'a', '--json', ...args);
    return made.code === 0 ? JSON.parse(made.output) : made;
  };
  const first = await create('--role', 'train');
  const second = await create('--role', 'train', '--owner', first.id);
  const third = await create('--role', 'read', '--owner', second.id);
  expect([second.owner, third.owner]).toEqual([first.id, first.id]);
  const auditor = await create('--role', 'read', '--owner', 'all');
  expect((await create('--role', 'read', '--owner', auditor.id)).owner).toBe('all');
  expect(await create('--role', 'train', '--owner', auditor.id)).toMatchObject({
    code: 1,
    errorOutput: expect.stringContaining('sees everything and owns nothing'),
  });
});

test.each([
  [['create', '--role', 'train'], '--name'],
  [['create', '--name', 'a', '--role', 'train', '--weight', '101'], 'from 0.01 to 100'],
  [['create', '--name', 'a', '--role', 'train', '--owner', `key_${'0'.repeat(24)}`, '--weight', '2'], 'no --weight'],
  [['weight', `key_${'0'.repeat(24)}`, '0'], 'from 0.01 to 100'],
  [['create', '--name', 'a'], '--role must be one of admin, train, read'],
  [['create', '--name', 'a', '--role', 'root'], '--role must be one of'],
  [['create', '--name', 'a', '--role', 'read'], '--owner KEY'],
  [['create', '--name', 'a', '--role', 'train', '--owner', 'all'], '--owner all needs --role read'],
  [['create', '--name', 'a', '--role', 'train', '--active-jobs', '-1'], '--active-jobs'],
  [['create', '--name', 'a', '--role', 'train', '--active-jobs', '1.5'], 'whole number'],
  [['create', '--nonsense'], 'nonsense'],
  [['revoke'], 'revoke KEY'],
  [['revoke', 'key_1'], 'not the id of a key'],
  [['forget', 'everything'], 'create --name'],
])('%j is refused', async (args, message) => {
  const { code, output, errorOutput } = await run(...args);
  expect([code, output]).toEqual([2, '']);
  expect(errorOutput).toContain(message);
  expect(await keys.list()).toEqual([]);
});

test('an unknown key is reported, and a secret in place of its id is not printed', async () => {
  const absent = await run('revoke', `key_${'0'.repeat(24)}`);
  expect([absent.code, absent.errorOutput]).toEqual([1, expect.stringContaining('no API key')]);
  const owner = await run('create', '--name', 'a', '--role', 'train', '--owner', `key_${'0'.repeat(24)}`);
  expect(owner.code).toBe(1);
  const { token } = await keys.create({ name: 'a', role: 'admin' });
  expect((await run('revoke', token)).errorOutput).not.toContain(token.slice(-43));
});
