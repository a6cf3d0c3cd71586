import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { brotliCompressSync, brotliDecompressSync, gunzipSync, gzipSync } from 'node:zlib';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RealRedis, startRealRedis } from '../../../test/real-redis.js';
import { createAccess, OPEN_ACCESS } from '../src/access/access.js';
import { KeyStore } from '../src/access/key-store.js';
import { readSite } from '../src/page-plugin.js';
import { jsonOf } from './json-of.js';
import { type RealApi, startRealApi } from './real-api.js';

const INDEX = '<!doctype html><script type="module" src="./assets/index-AbCd1234.js"></script>';
const SCRIPT = `console.log(${JSON.stringify('x'.repeat(500))});`;

let server: RealRedis;
let redis: Redis;
let folder: string;

beforeAll(async () => {
  server = await startRealRedis();
  redis = new Redis(server.url);
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-site-'));
  await mkdir(path.join(folder, 'assets'));
  const files = {
    'index.html': INDEX,
    'assets/index-AbCd1234.js': SCRIPT,
    'assets/licenses.md': 'MIT',
    'built-from': 'a digest',
    'assets/other.exe': 'not a file of a page',
  };
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
  await writeFile(path.join(folder, 'assets/index-AbCd1234.js.gz'), gzipSync(SCRIPT));
  await writeFile(path.join(folder, 'assets/index-AbCd1234.js.br'), brotliCompressSync(SCRIPT));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
  await redis.quit();
  await server.stop();
});

describe('a service with keys', () => {
  let api: RealApi;
  beforeAll(async () => {
    const prefix = `${server.prefix}page:`;
    const keys = new KeyStore({ redis, prefix });
    await keys.create({ name: 'somebody', role: 'train' });
    const access = createAccess({
      redis,
      prefix,
      keys,
      withoutKeys: 'refuse',
      limits: OPEN_ACCESS.limits,
      uploadTimeoutMs: 60_000,
    });
    api = await startRealApi({ redisUrl: server.url, prefix, changes: { access, site: await readSite(folder) } });
  });
  afterAll(() => api.stop());

  const get = (url: string, headers: Record<string, string> = {}) => api.app.inject({ method: 'GET', url, headers });

  test('the page is served without a key; what it shows is not', async () => {
    const page = await get('/');
    expect(page.statusCode).toBe(200);
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(page.body).toBe(INDEX);
    expect((await get('/?utm=1')).statusCode).toBe(200);
    expect((await get('/jobs')).statusCode).toBe(401);
    // Neither is what is not there.
    expect((await get('/index.html')).statusCode).toBe(401);
    expect((await get('/assets')).statusCode).toBe(401);
  });

  test('the policy of the page allows its own files and this service, and nothing else', async () => {
    const { headers } = await get('/');
    const policy = String(headers['content-security-policy']);
    const directives = Object.fromEntries(
      policy.split('; ').map((one) => [one.slice(0, one.indexOf(' ')), one.slice(one.indexOf(' ') + 1)]),
    );
    expect(directives).toEqual({
      'default-src': "'none'",
      'script-src': "'self'",
      'style-src': "'self'",
      'img-src': "'self'",
      'connect-src': "'self'",
      'base-uri': "'none'",
      'form-action': "'none'",
      'frame-ancestors': "'none'",
      'require-trusted-types-for': "'script'",
      'trusted-types': "'none'",
    });
    expect(headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
      'cross-origin-opener-policy': 'same-origin',
    });
  });

  test('a file whose name has a digest is kept by browsers; the page itself is asked for each time', async () => {
    const script = await get('/assets/index-AbCd1234.js');
    expect(script.headers['cache-control']).toBe('public, max-age=31536000, immutable');
    expect(script.headers['content-type']).toBe('text/javascript; charset=utf-8');
    expect((await get('/assets/licenses.md')).headers['cache-control']).toBe('no-cache');
    const page = await get('/');
    expect(page.headers['cache-control']).toBe('no-cache');
    const again = await get('/', { 'if-none-match': `"other", W/${page.headers.etag}` });
    expect(again.statusCode).toBe(304);
    expect(again.body).toBe('');
    expect((await get('/', { 'if-none-match': '"other"' })).statusCode).toBe(200);
  });

  test('each client gets the smallest form that it accepts', async () => {
    const forms = new Map<string, { coding: unknown; etag: unknown; text: string }>();
    for (const accepted of ['', 'gzip', 'gzip, deflate, br', 'br;q=0, gzip;q=0.5', 'identity', 'zstd']) {
      const answer = await get('/assets/index-AbCd1234.js', { 'accept-encoding': accepted });
      const coding = answer.headers['content-encoding'] ?? 'identity';
      const decode = { gzip: gunzipSync, br: brotliDecompressSync }[coding as string];
      const text = (decode === undefined ? answer.rawPayload : decode(answer.rawPayload)).toString();
      expect(answer.headers.vary).toBe('accept-encoding');
      forms.set(accepted, { coding, etag: answer.headers.etag, text });
    }
    expect([...forms.values()].map(({ coding }) => coding)).toEqual([
      ...['identity', 'gzip', 'br', 'gzip', 'identity', 'identity'],
    ]);
    expect(new Set([...forms.values()].map(({ text }) => text))).toEqual(new Set([SCRIPT]));
    expect(new Set([...forms.values()].map(({ etag }) => etag)).size).toBe(3);
  });

  test('only the files of the page are served', async () => {
    for (const name of ['other.exe', 'index-AbCd1234.js.br', '..%2findex.html', '..%2fbuilt-from', '__proto__']) {
      const answer = await get(`/assets/${name}`);
      expect(answer.statusCode, name).toBe(404);
      expect((await jsonOf(answer)).error.code, name).toBe('not_found');
    }
    const head = await api.app.inject({ method: 'HEAD', url: '/' });
    expect(head.statusCode).toBe(200);
    expect(head.body).toBe('');
    const post = await api.app.inject({ method: 'POST', url: '/', headers: { authorization: 'Bearer lsk_x' } });
    expect(post.statusCode).toBe(401);
  });
});

test('a service whose page is not built says what to do, and serves the API', async () => {
  expect(await readSite(path.join(folder, 'absent'))).toBeNull();
  const api = await startRealApi({ redisUrl: server.url, prefix: `${server.prefix}no-page:`, changes: { site: null } });
  try {
    const answer = await api.app.inject({ method: 'GET', url: '/' });
    expect(answer.statusCode).toBe(404);
    expect((await jsonOf(answer)).error.message).toContain('npm run setup');
    expect((await api.app.inject({ method: 'GET', url: '/jobs' })).statusCode).toBe(200);
  } finally {
    await api.stop();
  }
});
