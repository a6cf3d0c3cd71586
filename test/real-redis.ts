import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { inject } from 'vitest';
import { availablePort } from '../scripts/stack/ports.mjs';

/** A Redis, of one test file or of several. */
export interface RealRedis {
  url: string;
  /** The prefix of every key of the test: other tests use the same server. */
  prefix: string;
  /** Stops the server. Removes the keys with `prefix` instead if other tests use the server. */
  stop(): Promise<void>;
}

const START_ATTEMPTS = 5;
const START_TIMEOUT_MS = 15_000;

/**
 * The real Redis of all test files: that of `REDIS_URL`, or else the one that global set-up has started. A suite without it gets
 * a server of its own.
 */
export async function startRealRedis(): Promise<RealRedis> {
  const url = process.env.REDIS_URL || inject('redisUrl');
  if (!url) return await startOwnRedis();
  const prefix = newPrefix();
  return { url, prefix, stop: () => removeKeys(url, prefix) };
}

/**
 * A new server, regardless of `REDIS_URL`, for tests that configure it, end its connections, or look at all that is in it. It is
 * the program that set-up finds: `redis-server` or `valkey-server` on the PATH, else the pinned Valkey in the cache. It ends
 * with this process, even if the process is killed.
 *
 * @param optionsOf - Returns the options for a free port, including the one that sets the port.
 */
export async function startOwnRedis(
  optionsOf: (port: number) => string[] = (port) => ['--port', String(port)],
): Promise<RealRedis> {
  const source = await locateRedis({ ...process.env, REDIS_URL: '' });
  if ('url' in source) throw new Error('no Redis server to start');
  return await startServer(source.serverFile, optionsOf);
}

async function startServer(serverFile: string, optionsOf: (port: number) => string[]): Promise<RealRedis> {
  const prefix = newPrefix();
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-redis-'));
  for (let attempt = 1; ; attempt++) {
    const port = await availablePort('127.0.0.1', 0, 'REDIS_URL');
    const server = await tryToStart(serverFile, optionsOf(port), folder);
    if (server.started) {
      const stop = async () => {
        await end(server.child);
        await rm(folder, { recursive: true, force: true });
      };
      return { url: `redis://127.0.0.1:${port}`, prefix, stop };
    }
    // Another program took the port before the server started. Try another port.
    if (attempt === START_ATTEMPTS) {
      await rm(folder, { recursive: true, force: true });
      throw new Error(`Redis did not start (${serverFile}):\n${server.output}`);
    }
  }
}

/** An address at which nothing listens, for tests with an unavailable Redis. */
export async function absentRedisUrl(): Promise<string> {
  return `redis://127.0.0.1:${await availablePort('127.0.0.1', 0, 'REDIS_URL')}`;
}

function newPrefix(): string {
  return `test-${randomBytes(6).toString('hex')}:`;
}

async function locateRedis(env: NodeJS.ProcessEnv): Promise<{ url: string } | { serverFile: string }> {
  const setup = new URL('../scripts/setup/', import.meta.url).href;
  // The specifiers are computed because the set-up scripts are JavaScript without declarations.
  const { findRedis } = await import(`${setup}redis-server.mjs`);
  const { cacheDir } = await import(`${setup}locations.mjs`);
  const quiet = { update() {} };
  const { source } = await findRedis({ cache: cacheDir(env), env, progress: quiet });
  return source;
}

async function tryToStart(serverFile: string, listenOptions: string[], folder: string) {
  const options = [...listenOptions, '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendonly', 'no'];
  // The shell waits on a pipe from this process, so that the server ends even if this process is killed.
  const script = '"$@" & server=$!; (cat <&3 >/dev/null; kill $server) & wait $server';
  const child = spawn('/bin/sh', ['-c', script, 'redis', serverFile, ...options, '--maxmemory-policy', 'noeviction'], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-4000);
    });
  }
  let exited = false;
  child.once('exit', () => {
    exited = true;
  });
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!exited && !/Ready to accept connections/i.test(output) && Date.now() < deadline) await sleep(10);
  const started = !exited && /Ready to accept connections/i.test(output);
  if (!started && !exited) await end(child);
  return { started, child, output };
}

/** Closes the pipe that the shell waits on. The shell ends after the server. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.stdio[3]?.destroy();
  await exited;
}

async function removeKeys(url: string, prefix: string): Promise<void> {
  const redis = new Redis(url);
  try {
    for await (const keys of redis.scanStream({ match: `${prefix}*`, count: 500 })) {
      if (keys.length > 0) await redis.unlink(...(keys as string[]));
    }
  } finally {
    await redis.quit();
  }
}
