import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { S3Settings } from '../packages/storage/src/index.js';
import { cacheDir } from '../scripts/setup/locations.mjs';
import { findS3Server, startS3Server } from '../scripts/stack/s3-server.mjs';

/** An S3 server for one test file, with one empty bucket. */
export interface RealS3 {
  settings: S3Settings;
  /** The environment variables by which services use it. */
  environment: Record<string, string>;
  /** The folder in which the server keeps the objects of the bucket as files, by their keys. */
  objectsDir: string;
  /** Stops the server. The objects remain. */
  pause(): Promise<void>;
  /** Starts the server again, at the same address. */
  resume(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * A real S3 server in a folder of its own, from the program that set-up compiles.
 * Sets the environment variables in which the AWS client of this process finds the credentials.
 */
export async function startRealS3(): Promise<RealS3> {
  const file = await locateServer();
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-s3-'));
  const removeFolder = () => rm(folder, { recursive: true, force: true });
  const server = await startS3Server({ file, folder, bucket: 'lorasmith-test' }).catch(async (error: unknown) => {
    await removeFolder();
    throw error;
  });
  const { settings, credentials, bucketDir, pause, resume } = server;
  Object.assign(process.env, credentials);
  return {
    settings,
    environment: {
      ...credentials,
      STORE: 's3',
      S3_ENDPOINT: settings.endpoint,
      S3_REGION: settings.region,
      S3_BUCKET: settings.bucket,
      S3_FORCE_PATH_STYLE: 'true',
    },
    objectsDir: bucketDir,
    pause,
    resume,
    async stop() {
      await pause();
      await removeFolder();
    },
  };
}

async function locateServer(): Promise<string> {
  const quiet = { update() {} };
  return (await findS3Server({ cache: cacheDir(process.env), env: process.env, progress: quiet })).file;
}
