import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheDir } from '../setup/locations.mjs';
import { findRedis } from '../setup/redis-server.mjs';
import { answersOk, endedError, readinessAt, startProcess, waitUntil } from './managed-process.mjs';
import { availablePort } from './ports.mjs';
import { checkRedisAnswers, lockDataDir, startEmbeddedRedis } from './redis.mjs';
import { SERVICE_PROGRAMS, STOP_ORDER } from './service-programs.mjs';

const READY_TIMEOUT_MS = 60_000;
/** The interval at which a service that answers, and lacks something, is asked again. */
const ASK_AGAIN_MS = 2_000;
const REDIS_STOP_TIMEOUT_MS = 15_000;

/**
 * @typedef {object} StackOptions
 * @property {string} dataDir absolute; data, logs and Redis files; used by one stack at a time
 * @property {string} modelsDir absolute; a folder per base model
 * @property {string} [apiHost] default 127.0.0.1
 * @property {number} [apiPort] default 0: any free one
 * @property {number} [registryPort] default 0: any free one
 * @property {import('../setup/redis-server.mjs').RedisSource} [redis] default: as set-up finds it
 * @property {NodeJS.ProcessEnv} [env] further variables for the services; default: this process's environment
 * @property {AbortSignal} [signal] cancels the start; once the stack runs, use `stop`
 * @property {(event: StackEvent) => void} [onEvent]
 * @property {import('./service-programs.mjs').ServiceProgram[]} [services] default: those of Lorasmith
 *
 * @typedef {{ part: string, state: 'starting' | 'ready' | 'stopping' | 'stopped' } | { part: string, line: string }} StackEvent
 *   a change of a part's state, or a line that it wrote to its log
 *
 * @typedef {object} Stack
 * @property {string} apiUrl
 * @property {string} registryUrl
 * @property {string} redisUrl
 * @property {string} logsDir
 * @property {() => string[]} missing what keeps jobs from starting now, each as a sentence without its end; empty: nothing
 * @property {Promise<void>} working resolves once nothing does for the first time
 * @property {Promise<import('../setup/run-steps.mjs').SetupError>} failed resolves, and never rejects, when a part has
 *   ended by itself and all others have been stopped. Nothing is restarted.
 * @property {() => Promise<void>} stop stops the parts in order, within their time limits; further calls wait for the first
 */

/**
 * Starts Redis (unless its address is given), registry, worker, puller and api as separate processes, and waits until the api is
 * ready. The packages must be compiled.
 *
 * @param {StackOptions} options
 * @returns {Promise<Stack>}
 * @throws {import('../setup/run-steps.mjs').SetupError} when a part ends or is not ready in time (with its last log
 *   lines), a port is taken, or another stack uses the same data; everything started by then is stopped again
 */
export async function startStack(options) {
  const {
    dataDir,
    modelsDir,
    apiHost = '127.0.0.1',
    services = SERVICE_PROGRAMS,
    env = process.env,
    signal,
    onEvent,
  } = options;
  const unlock = await lockDataDir(dataDir);
  /** @type {Map<string, { process: import('./managed-process.mjs').ManagedProcess, stopTimeoutMs: number }>} */
  const parts = new Map();
  /** @type {Promise<void> | undefined} */
  let stopping;
  const ended = new AbortController();
  const stopAll = async () => {
    ended.abort();
    try {
      await stopInOrder(parts, onEvent);
    } finally {
      await unlock();
    }
  };
  const stop = () => {
    stopping ??= stopAll();
    return stopping;
  };

  try {
    const redis = options.redis ?? (await findInstalledRedis(env));
    let redisUrl = 'url' in redis ? redis.url : '';
    if (redisUrl !== '') await checkRedisAnswers(redisUrl);
    if ('serverFile' in redis) {
      onEvent?.({ part: 'redis', state: 'starting' });
      const started = await startEmbeddedRedis({ serverFile: redis.serverFile, dataDir, env, signal });
      parts.set('redis', { process: started.process, stopTimeoutMs: REDIS_STOP_TIMEOUT_MS });
      redisUrl = started.url;
      onEvent?.({ part: 'redis', state: 'ready' });
    }
    const apiPort = await availablePort(apiHost, options.apiPort ?? 0, 'API_PORT');
    const registryPort = await availablePort('127.0.0.1', options.registryPort ?? 0, 'REGISTRY_PORT');
    const addresses = {
      apiUrl: `http://${reachableHost(apiHost)}:${apiPort}`,
      registryUrl: `http://127.0.0.1:${registryPort}`,
    };
    const logsDir = path.join(dataDir, 'logs');
    const serviceEnv = {
      // Hides TensorFlow's messages about the processor in every log.
      TF_CPP_MIN_LOG_LEVEL: '2',
      ...env,
      DATA_DIR: dataDir,
      MODELS_DIR: modelsDir,
      REDIS_URL: redisUrl,
      API_HOST: apiHost,
      API_PORT: String(apiPort),
      REGISTRY_HOST: '127.0.0.1',
      REGISTRY_PORT: String(registryPort),
      REGISTRY_URL: addresses.registryUrl,
      // The registry answers the api of this start, and nobody else on this machine.
      SERVICE_SECRET: env.SERVICE_SECRET || randomBytes(32).toString('hex'),
    };
    const secrets = services.flatMap((service) => service.secrets ?? []);
    const hindrances = new Hindrances(onEvent);
    for (const { name, program, readyUrl, reportsHindrance, stopTimeoutMs, secrets: own = [] } of services) {
      onEvent?.({ part: name, state: 'starting' });
      const part = startProcess({
        name,
        program,
        env: Object.fromEntries(
          Object.entries(serviceEnv).filter(([variable]) => own.includes(variable) || !secrets.includes(variable)),
        ),
        logFile: path.join(logsDir, `${name}.log`),
        onLine: (line) => onEvent?.({ part: name, line }),
        onMessage: (message) => hindrances.onMessage(name, message),
      });
      if (reportsHindrance) hindrances.set(name, ['it is still starting']);
      parts.set(name, { process: part, stopTimeoutMs });
      const url = readyUrl(addresses);
      if (url) {
        /** @type {string[] | undefined} */
        let missing;
        const isReady = async () => {
          missing = await readinessAt(url);
          return missing !== undefined;
        };
        await waitUntil(isReady, { process: part, timeoutMs: READY_TIMEOUT_MS, signal });
        hindrances.set(name, missing ?? []);
        if (missing?.length) void untilNothingIsMissing(url, ended.signal, () => hindrances.set(name, []));
      }
    }
    const failed = firstEnd(parts).then(async (error) => {
      await stop();
      return error;
    });
    hindrances.allStarted();
    const { working } = hindrances;
    return { ...addresses, redisUrl, logsDir, missing: () => hindrances.missing(), working, failed, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** @param {string} url @param {AbortSignal} signal ends the asking @param {() => void} then */
async function untilNothingIsMissing(url, signal, then) {
  while (!signal.aborted) {
    if (await answersOk(url)) return then();
    await sleep(ASK_AGAIN_MS, undefined, { signal }).catch(() => {});
  }
}

/** The reasons that keep parts from their work, as each last said. */
class Hindrances {
  /** @type {Map<string, string[]>} */
  #ofParts = new Map();
  #onEvent;
  #areAllStarted = false;
  /** @type {() => void} */
  #work = () => {};
  /** @type {Promise<void>} */
  working = new Promise((resolve) => {
    this.#work = resolve;
  });

  /** @param {StackOptions['onEvent']} onEvent */
  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  /** @param {string} part @param {string[]} reasons */
  set(part, reasons) {
    this.#ofParts.set(part, reasons);
    if (reasons.length > 0) return;
    this.#onEvent?.({ part, state: 'ready' });
    this.#tell();
  }

  /** Ends the time in which parts are missing that are not started yet. */
  allStarted() {
    this.#areAllStarted = true;
    this.#tell();
  }

  #tell() {
    if (this.#areAllStarted && this.missing().length === 0) this.#work();
  }

  /** @param {string} part @param {unknown} message */
  onMessage(part, message) {
    if (typeof message !== 'object' || message === null || !('hindrance' in message)) return;
    const { hindrance } = message;
    this.set(part, hindrance === null ? [] : [String(hindrance)]);
  }

  /** @returns {string[]} */
  missing() {
    return [...this.#ofParts].flatMap(([part, reasons]) => reasons.map((reason) => `${part}: ${reason}`));
  }
}

/**
 * Resolves when a part ends while the others run. A stop by the caller resolves it, too, which nobody awaits by then.
 *
 * @param {Map<string, { process: import('./managed-process.mjs').ManagedProcess }>} parts
 */
async function firstEnd(parts) {
  return await Promise.race([...parts.values()].map(async ({ process: part }) => endedError(part, await part.exited)));
}

/**
 * @param {Map<string, { process: import('./managed-process.mjs').ManagedProcess, stopTimeoutMs: number }>} parts
 * @param {StackOptions['onEvent']} onEvent
 */
async function stopInOrder(parts, onEvent) {
  const known = STOP_ORDER.filter((name) => parts.has(name));
  const others = [...parts.keys()].filter((name) => !STOP_ORDER.includes(name));
  for (const name of [...others, ...known]) {
    const part = parts.get(name);
    if (!part) continue;
    if (part.process.running) onEvent?.({ part: name, state: 'stopping' });
    await part.process.stop(part.stopTimeoutMs);
    onEvent?.({ part: name, state: 'stopped' });
  }
}

/** @param {NodeJS.ProcessEnv} env */
async function findInstalledRedis(env) {
  const { source } = await findRedis({ cache: cacheDir(env), env, progress: { update() {} } });
  return source;
}

/** The address at which this machine reaches a service that may listen on every interface. @param {string} host */
function reachableHost(host) {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

/** The names of the log levels that are shown on the terminal. Lower levels appear only in the log files. */
const SHOWN_LEVELS = new Map([
  ['warn', 'warning'],
  ['error', 'error'],
  ['fatal', 'error'],
]);
const LONGEST_MESSAGE = 300;

/**
 * Prints short lines to a terminal: each change of a part's state, and the warnings and errors that a part logs.
 *
 * @param {NodeJS.WritableStream} output
 * @returns {(event: StackEvent) => void}
 */
export function consoleReport(output) {
  return (event) => {
    const text = 'state' in event ? event.state : warningIn(event.line);
    if (text) output.write(`${event.part.padEnd(9)}${text}\n`);
  };
}

/** @param {string} line @returns {string | undefined} the message of a logged warning or error, or a line that is not JSON */
function warningIn(line) {
  let entry;
  try {
    entry = JSON.parse(line);
  } catch {
    return line.slice(0, LONGEST_MESSAGE);
  }
  const level = SHOWN_LEVELS.get(entry?.level);
  if (level === undefined) return undefined;
  const detail =
    typeof entry.err?.message === 'string' && entry.err.message !== entry.msg ? `: ${entry.err.message}` : '';
  return `${level}: ${entry.msg ?? ''}${detail}`.slice(0, LONGEST_MESSAGE);
}
