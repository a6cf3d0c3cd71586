import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type RealRedis, startOwnRedis } from '../../../test/real-redis.js';
import {
  checkFolders,
  createHttpApp,
  createLogger,
  foldersReady,
  healthRoutes,
  listen,
  redisDurability,
  watchRedisDurability,
} from '../src/index.js';

let lines: { level: string; msg: string }[];
const destination = new Writable({
  write(chunk, _encoding, done) {
    lines.push(JSON.parse(chunk.toString()));
    done();
  },
});
const logger = createLogger({ service: 'test', level: 'info', destination });
beforeEach(() => {
  lines = [];
});

describe('checkFolders', () => {
  let root: string;
  beforeAll(async () => {
    root = await mkdtemp(path.join(tmpdir(), 'lorasmith-start-'));
    await mkdir(path.join(root, 'models/tiny'), { recursive: true });
    await mkdir(path.join(root, 'no-models/.cache'), { recursive: true });
    await writeFile(path.join(root, 'no-models/README.md'), '');
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  test('creates missing folders and changes nothing else', async () => {
    const dataDir = path.join(root, 'new/data');
    await checkFolders({ dataDir, modelsDir: path.join(root, 'models'), logger });
    expect(await readdir(dataDir)).toEqual([]);
    expect(lines).toEqual([]);
  });

  test('warns of a models folder without a base model', async () => {
    for (const modelsDir of ['no-models', 'nowhere']) {
      await checkFolders({ dataDir: root, modelsDir: path.join(root, modelsDir), logger });
    }
    expect(lines.map(({ level, msg }) => [level, msg.split('. ')[0]])).toEqual([
      ['warn', 'MODELS_DIR contains no base model'],
      ['warn', expect.stringMatching(/^MODELS_DIR cannot be read \(ENOENT/)],
    ]);
  });

  test('refuses a folder that is not writable, in one line that says what to do', async () => {
    const file = path.join(root, 'a-file');
    await writeFile(file, '');
    const folders = [path.join(file, 'data')];
    // Root may write everywhere, whatever the mode.
    if (process.getuid?.() !== 0) {
      await mkdir(path.join(root, 'locked'));
      await chmod(path.join(root, 'locked'), 0o500);
      folders.push(path.join(root, 'locked'));
    }
    for (const dataDir of folders) {
      const refused = await checkFolders({ dataDir, modelsDir: root, logger }).catch((error: unknown) => error);
      expect(refused).toMatchObject({ code: 'invalid_configuration', param: 'DATA_DIR' });
      expect((refused as Error).message).toMatch(/^DATA_DIR ".*" is not writable.*chown -R.*another folder\.$/);
    }
  });
});

describe('the readiness check of folders', () => {
  test('includes the models folder only if base models are in it, as before the start', async () => {
    const ready = async (modelsDir: string | null) => {
      const app = createHttpApp({ logger });
      await app.register(healthRoutes, { checks: foldersReady({ dataDir: tmpdir(), modelsDir }) });
      const answer = await app.inject('/ready');
      await app.close();
      return [answer.statusCode, answer.json()];
    };
    expect(await ready(null)).toEqual([200, { status: 'ok', checks: ['data'] }]);
    expect(await ready(tmpdir())).toEqual([200, { status: 'ok', checks: ['data', 'models'] }]);
    const [status, { error }] = await ready('/nowhere/models');
    expect([status, error.details]).toEqual([503, [expect.objectContaining({ param: 'models' })]]);
  });
});

describe('listen', () => {
  const address = { host: '127.0.0.1', hostVariable: 'API_HOST', portVariable: 'API_PORT', maxConnections: 100 };

  test('refuses an address in use and names its variable', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    const { port } = other.address() as { port: number };
    const app = createHttpApp({ logger });
    await expect(listen(app, { ...address, port })).rejects.toThrow(
      `API_PORT ${port}: another program listens on this port of 127.0.0.1. Stop it, or set another API_PORT.`,
    );
    await app.close();
    other.close();
  });

  test('refuses an address of another machine', async () => {
    const app = createHttpApp({ logger });
    const elsewhere = { ...address, host: '192.0.2.1', port: 0 };
    await expect(listen(app, elsewhere)).rejects.toThrow(/^API_HOST 192\.0\.2\.1: this machine has no such address/);
    await app.close();
  });
});

test('connections beyond the limit are refused, and open ones are served', async () => {
  const app = createHttpApp({ logger });
  app.get('/', async () => ({ ok: true }));
  const address = { host: '127.0.0.1', port: 0, hostVariable: 'API_HOST', portVariable: 'API_PORT' };
  await listen(app, { ...address, maxConnections: 2 });
  const { port } = app.server.address() as { port: number };
  const sockets = Array.from({ length: 5 }, () => connect(port, '127.0.0.1'));
  for (const socket of sockets) socket.on('error', () => {});
  await Promise.all(sockets.slice(2).map((socket) => once(socket, 'close')));
  sockets[0]!.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n');
  expect(String((await once(sockets[0]!, 'data'))[0])).toContain('200 OK');
  for (const socket of sockets) socket.destroy();
  await app.close();
});

test('connections use at most half of the open files, whatever the setting', async () => {
  const app = createHttpApp({ logger });
  await listen(app, { host: '127.0.0.1', port: 0, hostVariable: '', portVariable: '', maxConnections: 2 ** 50 });
  const limits = await readFile('/proc/self/limits', 'utf8');
  const files = Number(/^Max open files +(\d+)/m.exec(limits)![1]);
  expect(app.server.maxConnections).toBe(Math.floor(files / 2));
  await app.close();
});

// An own server, because the tests change its settings.
describe('Redis', () => {
  let server: RealRedis;
  let redis: Redis;
  const withSettings = async (settings: Record<string, string>, work: () => Promise<void>) => {
    const before = new Map<string, string>();
    for (const [name, value] of Object.entries(settings)) {
      before.set(name, ((await redis.config('GET', name)) as string[])[1] ?? '');
      await redis.config('SET', name, value);
    }
    try {
      await work();
    } finally {
      for (const [name, value] of before) await redis.config('SET', name, value);
    }
  };
  const safe = { 'maxmemory-policy': 'noeviction', maxmemory: '0', appendonly: 'no', save: '' };
  beforeAll(async () => {
    server = await startOwnRedis();
    redis = new Redis(server.url);
  });
  afterAll(async () => {
    redis.disconnect();
    await server.stop();
  });

  test('Redis that persists every write causes no warning', async () => {
    await withSettings({ ...safe, appendonly: 'yes' }, async () => {
      expect(await redisDurability(redis)).toEqual({ evicting: null, warnings: [] });
    });
  });

  test('Redis that persists nothing, or only snapshots, causes a warning', async () => {
    await withSettings(safe, async () => {
      expect((await redisDurability(redis)).warnings).toEqual([expect.stringMatching(/^Redis persists nothing/)]);
    });
    await withSettings({ ...safe, save: '3600 1' }, async () => {
      expect((await redisDurability(redis)).warnings).toEqual([
        'Redis makes snapshots only (save 3600 1): a crash loses the jobs since the last one. Set appendonly to yes',
      ]);
    });
  });

  test('Redis that disables CONFIG is checked with INFO', async () => {
    const hidden = {
      info: (section: string) => redis.info(section),
      config: () => Promise.reject(new Error("ERR unknown command 'CONFIG'")),
    } as unknown as Redis;
    await withSettings(safe, async () => {
      expect((await redisDurability(hidden)).warnings).toEqual([
        expect.stringContaining('does not report whether it makes snapshots'),
      ]);
    });
  });

  test('Redis that evicts keys is refused once it is available; one that only could evict causes a warning', async () => {
    const refusals: string[] = [];
    const watched = new Redis(server.url, { lazyConnect: true });
    await withSettings({ ...safe, appendonly: 'yes', 'maxmemory-policy': 'volatile-lru' }, async () => {
      expect((await redisDurability(redis)).warnings).toEqual([expect.stringContaining('once maxmemory is set')]);
      await redis.config('SET', 'maxmemory', '100mb');
      watchRedisDurability({ redis: watched, logger, onEvicting: (message) => refusals.push(message) });
      expect(refusals).toEqual([]);
      await watched.connect();
      for (let i = 0; i < 500 && refusals.length === 0; i++) await sleep(20);
    });
    watched.disconnect();
    expect(refusals).toEqual([expect.stringMatching(/^REDIS_URL: .* \(maxmemory-policy volatile-lru\).*noeviction/)]);
  });
});
