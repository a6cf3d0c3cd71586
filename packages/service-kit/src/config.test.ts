import { Type } from 'typebox';
import { expect, test } from 'vitest';
import { configurationTable, dataDir, logLevel, Port, readConfig, redisUrl, setting } from './index.js';

const port = setting({
  variable: 'API_PORT',
  schema: Port,
  fallback: '8080',
  example: '8080',
  description: 'Port of the api.',
});
const timeout = setting({
  variable: 'WAIT_MS',
  schema: Type.Integer({ minimum: 1 }),
  unit: 'ms',
  example: '500',
  description: 'How long.',
});
const tree = { http: { port, timeout }, redis: { url: redisUrl }, logLevel };

test('defaults and values are typed, in the shape of the tree, and frozen', () => {
  const config = readConfig(tree, { WAIT_MS: '250', API_PORT: '', LOG_LEVEL: 'warn' });
  expect(config).toEqual({
    http: { port: 8080, timeout: 250 },
    redis: { url: 'redis://127.0.0.1:6379' },
    logLevel: 'warn',
  });
  expect(config.http.port satisfies number).toBe(8080);
  expect(() => Object.assign(config.http, { port: 1 })).toThrow(TypeError);
});

test('the error lists every invalid variable with its fault and an example, but no secret value', () => {
  const environment = { API_PORT: '80x', REDIS_URL: 'http://user:hunter2@host' };
  expect(() => readConfig(tree, environment)).toThrowError(
    expect.objectContaining({
      code: 'invalid_configuration',
      message: [
        'The environment is invalid:',
        '  API_PORT "80x": must be integer; for instance API_PORT=8080',
        '  WAIT_MS must be set, for instance WAIT_MS=500',
        '  REDIS_URL: is not an address that begins with redis://, rediss:// or unix://; for instance REDIS_URL=redis://127.0.0.1:6379',
      ].join('\n'),
      details: ['API_PORT', 'WAIT_MS', 'REDIS_URL'].map((param) => expect.objectContaining({ param })),
    }),
  );
});

test.each(['65536', '-1', '1.5', '1e3.', 'NaN', 'Infinity'])('%s is not a port', (API_PORT) => {
  expect(() => readConfig({ port }, { API_PORT })).toThrowError(
    expect.objectContaining({ code: 'invalid_configuration' }),
  );
});

test('a folder becomes an absolute path', () => {
  expect(readConfig({ dataDir }, { DATA_DIR: 'some/where' }).dataDir).toBe(`${process.cwd()}/some/where`);
});

test('the documentation of the environment is generated from the same settings', () => {
  expect(configurationTable({ port, timeout })).toBe(
    [
      '| Variable | Default | Unit | What it does |',
      '| --- | --- | --- | --- |',
      '| `API_PORT` | `8080` |  | Port of the api. |',
      '| `WAIT_MS` | must be set | ms | How long. |',
    ].join('\n'),
  );
});
