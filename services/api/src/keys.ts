#!/usr/bin/env node
import { ProductError } from '@lorasmith/contracts';
import {
  checkRedisSettings,
  connectRedis,
  createLogger,
  readConfigOrExit,
  redisReady,
  redisSettings,
} from '@lorasmith/service-kit';
import { runKeyCommand } from './access/key-commands.js';
import { KeyStore } from './access/key-store.js';

const REDIS_WAIT_MS = 5_000;

const config = readConfigOrExit({ redis: redisSettings }, process.env, ({ redis }) => checkRedisSettings(redis));
const logger = createLogger({ service: 'keys', level: 'silent' });
const redis = connectRedis({ ...config.redis, whenUnavailable: 'fail-fast', name: 'lorasmith-keys', logger });
await redisReady(redis, REDIS_WAIT_MS);
try {
  process.exitCode = await runKeyCommand({
    args: process.argv.slice(2),
    keys: new KeyStore({ redis, prefix: config.redis.prefix }),
    output: process.stdout,
    errorOutput: process.stderr,
  });
} catch (error) {
  process.stderr.write(`${error instanceof ProductError ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  redis.disconnect();
}
