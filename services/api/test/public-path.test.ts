import type { Dataset } from '@lorasmith/contracts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { withoutPublicPath } from '../src/app.js';
import { promptRows, type RealApi, startRealApi } from './real-api.js';

// A proxy serves the api at https://host/lora. Some proxies remove the path before they forward, and others leave it.

let server: RealRedis;
let api: RealApi;
beforeAll(async () => {
  server = await startRealRedis();
  const site = new Map([
    [
      'index.html',
      { type: 'text/html', etag: '"1"', isImmutable: false, bytes: { identity: Buffer.from('the page') } },
    ],
  ]);
  const prefix = `${server.prefix}path:`;
  api = await startRealApi({ redisUrl: server.url, prefix, changes: { publicPath: '/lora', site } });
});
afterAll(async () => {
  await api.stop();
  await server.stop();
});

describe.each(['', '/lora'])('a proxy that forwards with the path "%s"', (path) => {
  test('location has the path of the outside', async () => {
    const answer = await api.app.inject({
      method: 'POST',
      url: `${path}/datasets`,
      headers: { 'content-type': 'application/jsonl' },
      payload: promptRows(3, `of ${path}`),
    });
    const { id } = answer.json<Dataset>();
    expect([answer.statusCode, answer.headers.location]).toEqual([201, `/lora/datasets/${id}`]);
    expect((await api.app.inject(`${path}/datasets/${id}`)).statusCode).toBe(200);
  });

  test.each(['/docs', '/docs/'])('%s finds its scripts, styles and document', async (page) => {
    const { body, statusCode } = await api.app.inject(`${path}${page}`);
    expect(statusCode).toBe(200);
    const files = [...body.matchAll(/(?:src|href)="([^"]+)"/g)].map(
      ([, file = '']) => new URL(file, `https://host/lora${page}`),
    );
    expect(files.length).toBeGreaterThan(4);
    for (const { pathname } of files) {
      expect(pathname).toMatch(/^\/lora\/docs\/static\//);
      const inside = path === '' ? pathname.slice('/lora'.length) : pathname;
      expect([inside, (await api.app.inject(inside)).statusCode]).toEqual([inside, 200]);
    }
  });

  test('the OpenAPI document names the path as its server', async () => {
    for (const document of ['/openapi.json', '/docs/json']) {
      expect((await api.app.inject(`${path}${document}`)).json().servers[0].url).toBe('/lora');
    }
  });

  test('the page is there', async () => {
    expect((await api.app.inject(`${path}/`)).body).toBe('the page');
  });
});

test('the path without its last slash leads to the page, whose files are relative', async () => {
  const { statusCode, headers } = await api.app.inject('/lora');
  expect([statusCode, headers.location]).toEqual([302, '/lora/']);
});

test.each([
  ['/lora/jobs?limit=1', '/jobs?limit=1'],
  ['/lora/', '/'],
  ['/lora', '/'],
  ['/lora?x=1', '/?x=1'],
  // A proxy that has removed it.
  ['/jobs', '/jobs'],
  ['/loras', '/loras'],
  ['/v1/lora/jobs', '/v1/lora/jobs'],
  ['/lora/lora/jobs', '/lora/jobs'],
])('%s is %s of the service', (url, expected) => {
  expect(withoutPublicPath(url, '/lora')).toBe(expected);
  expect(withoutPublicPath(url, '')).toBe(url);
});
