import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { S3Settings } from '../packages/storage/src/index.js';
import { availablePort } from '../scripts/stack/ports.mjs';

/** An S3 server for one test file, with one empty bucket. */
export interface RealS3 {
  settings: S3Settings;
  /** The environment variables by which services use it. */
  environment: Record<string, string>;
  /** Where the server keeps the objects as files: `objects/<bucket>/<key>`. */
  objectsDir: string;
  /** Stops the server. The objects remain. */
  pause(): Promise<void>;
  /** Starts the server again, at the same address. */
  resume(): Promise<void>;
  stop(): Promise<void>;
}

const BUCKET = 'lorasmith-test';
const REGION = 'us-east-1';
const START_TIMEOUT_MS = 60_000;
const START_ATTEMPTS = 5;
/** Invented credentials, for a server that only this test can reach. */
const ACCESS_KEY = 'test-access';
const SECRET_KEY = 'test-secret';

/**
 * A real S3 server (Versity Gateway) on a free port of the loopback interface, from the program that set-up compiles.
 * Sets the environment variables in which the AWS client of this process finds the credentials.
 */
export async function startRealS3(): Promise<RealS3> {
  const file = await locateServer();
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-s3-'));
  const objectsDir = path.join(folder, 'objects');
  await mkdir(path.join(objectsDir, BUCKET), { recursive: true });
  await mkdir(path.join(folder, 'metadata'));
  let running: ChildProcess | undefined;
  let port = 0;
  for (let attempt = 1; running === undefined; attempt++) {
    port = await availablePort('127.0.0.1', 0, 'S3_ENDPOINT');
    const started = await tryToStart(file, folder, port);
    running = started.child;
    if (running === undefined && attempt === START_ATTEMPTS) {
      await rm(folder, { recursive: true, force: true });
      throw new Error(`the S3 server did not start (${file}):\n${started.output}`);
    }
  }
  const credentials = { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY };
  Object.assign(process.env, credentials);
  const endpoint = `http://127.0.0.1:${port}`;
  const pause = async () => {
    if (running !== undefined) await end(running);
    running = undefined;
  };
  return {
    settings: { endpoint, region: REGION, bucket: BUCKET, prefix: '', forcePathStyle: true },
    environment: {
      ...credentials,
      STORE: 's3',
      S3_ENDPOINT: endpoint,
      S3_REGION: REGION,
      S3_BUCKET: BUCKET,
      S3_FORCE_PATH_STYLE: 'true',
    },
    objectsDir: path.join(objectsDir, BUCKET),
    pause,
    async resume() {
      const { child, output } = await tryToStart(file, folder, port);
      if (child === undefined) throw new Error(`the S3 server did not start again:\n${output}`);
      running = child;
    },
    async stop() {
      await pause();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function locateServer(): Promise<string> {
  const setup = new URL('../scripts/setup/', import.meta.url).href;
  // The specifiers are computed because the set-up scripts are JavaScript without declarations.
  const { findS3Server } = await import(`${setup}s3-server.mjs`);
  const { cacheDir } = await import(`${setup}locations.mjs`);
  const quiet = { update() {} };
  return (await findS3Server({ cache: cacheDir(process.env), env: process.env, progress: quiet })).file;
}

async function tryToStart(
  file: string,
  folder: string,
  port: number,
): Promise<{ child: ChildProcess | undefined; output: string }> {
  const options = ['--port', `127.0.0.1:${port}`, '--region', REGION, '--quiet', '--keep-alive'];
  // Stores metadata in files, because not every file system has extended attributes.
  const backend = ['posix', '--sidecar', path.join(folder, 'metadata'), path.join(folder, 'objects')];
  // The shell waits on a pipe from this process, so that the server ends even if this process is killed.
  const script = '"$@" & server=$!; (cat <&3 >/dev/null; kill $server) & wait $server';
  const child = spawn('/bin/sh', ['-c', script, 's3', file, ...options, ...backend], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, ROOT_ACCESS_KEY: ACCESS_KEY, ROOT_SECRET_KEY: SECRET_KEY },
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
  while (!exited && Date.now() < deadline) {
    // Refused while nothing listens. Any answer, even an error, shows that the server runs.
    const answers = await fetch(`http://127.0.0.1:${port}/`).then(
      (answer) => answer.headers.get('server') === 'VERSITYGW',
      () => false,
    );
    if (answers) return { child, output };
    await sleep(20);
  }
  if (!exited) await end(child);
  return { child: undefined, output };
}

/** Closes the pipe that the shell waits on. The shell ends after the server. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.stdio[3]?.destroy();
  await exited;
}
