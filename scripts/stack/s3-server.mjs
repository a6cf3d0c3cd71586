import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findGoProgram } from '../setup/go-program.mjs';
import { cacheDir } from '../setup/locations.mjs';
import { runSteps } from '../setup/run-steps.mjs';
import { availablePort } from './ports.mjs';

/**
 * @typedef {object} S3Server
 * @property {{ endpoint: string, region: string, bucket: string, prefix: string, forcePathStyle: boolean }} settings
 * @property {Record<'AWS_ACCESS_KEY_ID' | 'AWS_SECRET_ACCESS_KEY', string>} credentials
 * @property {string} bucketDir where the server keeps the objects as files
 * @property {() => Promise<void>} pause stops the server; the objects remain
 * @property {() => Promise<void>} resume starts the server again, at the same address
 */

const REGION = 'us-east-1';
const START_TIMEOUT_MS = 60_000;
const START_ATTEMPTS = 5;
/** Invented, for a server that only this machine can reach. */
const ACCESS_KEY = 'test-access';
const SECRET_KEY = 'test-secret';

/**
 * Starts a real S3 server (Versity Gateway) on a free port of the loopback interface, with one empty bucket.
 *
 * @param {{ file: string, folder: string, bucket: string }} options `file`: the program that set-up compiles; `folder`: an empty one
 * @returns {Promise<S3Server>}
 */
export async function startS3Server({ file, folder, bucket }) {
  const bucketDir = path.join(folder, 'objects', bucket);
  await mkdir(bucketDir, { recursive: true });
  await mkdir(path.join(folder, 'metadata'));
  /** @type {import('node:child_process').ChildProcess | undefined} */
  let running;
  let port = 0;
  for (let attempt = 1; running === undefined; attempt++) {
    port = await availablePort('127.0.0.1', 0, 'S3_ENDPOINT');
    const { child, output } = await tryToStart(file, folder, port);
    running = child;
    if (running === undefined && attempt === START_ATTEMPTS)
      throw new Error(`the S3 server did not start (${file}):\n${output}`);
  }
  const endpoint = `http://127.0.0.1:${port}`;
  return {
    settings: { endpoint, region: REGION, bucket, prefix: '', forcePathStyle: true },
    credentials: { AWS_ACCESS_KEY_ID: ACCESS_KEY, AWS_SECRET_ACCESS_KEY: SECRET_KEY },
    bucketDir,
    async pause() {
      if (running !== undefined) await end(running);
      running = undefined;
    },
    async resume() {
      const { child, output } = await tryToStart(file, folder, port);
      if (child === undefined) throw new Error(`the S3 server did not start again:\n${output}`);
      running = child;
    },
  };
}

/**
 * @param {string} file @param {string} folder @param {number} port
 * @returns {Promise<{ child: import('node:child_process').ChildProcess | undefined, output: string }>}
 */
async function tryToStart(file, folder, port) {
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
    stream?.on('data', (/** @type {Buffer} */ chunk) => {
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

/** Closes the pipe that the shell waits on. The shell ends after the server. @param {import('node:child_process').ChildProcess} child */
async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.stdio[3]?.destroy();
  await exited;
}

/**
 * A real S3 server for tests. It stores objects as files, supports conditional puts and multipart uploads, and needs no
 * special permissions.
 *
 * @type {import('../setup/go-program.mjs').GoProgram}
 */
const VERSITYGW = {
  name: 'versitygw',
  modulePackage: 'github.com/versity/versitygw/cmd/versitygw',
  version: 'v1.8.0',
  goVersion: [1, 25],
};

/**
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('../setup/run-steps.mjs').Progress }} options
 * @returns {Promise<{ file: string, origin: string }>} the server program
 * @throws {import('../setup/run-steps.mjs').SetupError}
 */
export function findS3Server(options) {
  return findGoProgram(VERSITYGW, options);
}

/**
 * Compiles the server once, as a step of its own after set-up.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<string>} the server program
 * @throws {import('../setup/run-steps.mjs').SetupError} naming the step
 */
export async function installS3Server(env) {
  let server = '';
  await runSteps([
    {
      name: 'S3 server',
      async run(progress) {
        const { file, origin } = await findS3Server({ cache: cacheDir(env), env, progress });
        server = file;
        return origin;
      },
    },
  ]);
  return server;
}
