import { hostname } from 'node:os';
import { HEARTBEAT_MS } from '@lorasmith/child-processes';
import { DEFAULT_TIME_SLICE_MS, WORKER_CLASS_NAME } from '@lorasmith/queue';
import {
  type Config,
  dataDir,
  logLevel,
  mapSetting,
  modelsDir,
  Port,
  redisSettings,
  setting,
  shutdownTimeoutMs,
  storeSettings,
  tokenCacheBytes,
  tracingEndpoint,
} from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { DEFAULT_POOL_TIMES } from './trainer/trainer-pool.js';
import { DEFAULT_TRAINER_LIMITS } from './trainer/trainer-process.js';

const workerName = setting({
  variable: 'WORKER_NAME',
  schema: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }),
  fallback:
    hostname()
      .replace(/[^A-Za-z0-9._-]/g, '-')
      .slice(0, 64) || 'worker',
  example: 'gpu-1',
  fault: 'has other characters than letters, digits and ._- or is longer than 64',
  description:
    'Name of this worker in the events of its jobs. It must differ between workers. The default is the name of ' +
    'the host.',
});

const workerClass = setting({
  variable: 'WORKER_CLASS',
  schema: Type.String({ pattern: `^(${WORKER_CLASS_NAME})?$` }),
  fallback: '',
  example: 'a10g',
  fault: 'is not a name of small letters, digits and - of at most 20 characters',
  description:
    'The class of this worker, one of `WORKER_CLASSES` of the api, for workers that are started as they are needed.',
});

const jobLockMs = setting({
  variable: 'JOB_LOCK_MS',
  schema: Type.Integer({ minimum: 2_000, maximum: 3_600_000 }),
  fallback: '120000',
  unit: 'ms',
  example: '120000',
  description:
    'How long a worker may be unreachable before another one takes its job. Shorter values react sooner, but ' +
    'take jobs away from healthy workers while Redis is slow. The same for every worker.',
});

const jobTimeoutMs = setting({
  variable: 'JOB_TIMEOUT_MS',
  schema: Type.Integer({ minimum: 1_000, maximum: 2_000_000_000 }),
  fallback: '604800000',
  unit: 'ms',
  example: '86400000',
  description:
    'How long a job may run without interruption, tokenizing included. After that it is stopped, with a checkpoint if it ' +
    'trained, and fails with `job_timed_out`; it can be resumed.',
});

const jobsAtOnce = setting({
  variable: 'JOBS_AT_ONCE',
  schema: Type.Integer({ minimum: 1, maximum: 64 }),
  fallback: '8',
  example: '4',
  description:
    'The most jobs that a worker trains at once. They share one trainer and one base model in memory, as many as fit into ' +
    'memory by the estimate; jobs on other base models, or in another precision, wait.',
});

const timeSliceMs = setting({
  variable: 'TURN_MS',
  schema: Type.Integer({ minimum: 1_000, maximum: 604_800_000 }),
  fallback: String(DEFAULT_TIME_SLICE_MS),
  unit: 'ms',
  example: '60000',
  description:
    'How long jobs on the loaded base model may go on while a job on another base model is next in the queue. Then they are paused, ' +
    'with a checkpoint. A job also keeps its place this long while others of its share wait for one. The same for every worker.',
});

const passTokens = mapSetting(
  setting({
    variable: 'PASS_TOKENS',
    schema: Type.Integer({ minimum: 0, maximum: 1_048_576 }),
    fallback: '0',
    unit: 'tokens',
    example: '2048',
    description:
      'How many tokens of several jobs share a pass through the base model, and how many an evaluation reads at a time. `0`: ' +
      '1,024 on a processor; on a GPU 1,024 to 16,384, by the measured rates. More take more memory, gain little on a processor, ' +
      'and a cancel takes effect after a pass. A micro-batch that is larger has a pass of its own.',
  }),
  (value) => (value === 0 ? null : value),
);

const trainerIdleMs = setting({
  variable: 'TRAINER_IDLE_MS',
  schema: Type.Integer({ minimum: 0, maximum: 86_400_000 }),
  fallback: String(DEFAULT_POOL_TIMES.idleMs),
  unit: 'ms',
  example: '600000',
  description: 'How long an idle trainer keeps its base model in memory for the next job on that model.',
});

const trainerSilenceMs = setting({
  variable: 'TRAINER_SILENCE_MS',
  // A trainer that is well is silent for as long as a heartbeat takes to come.
  schema: Type.Integer({ minimum: 2 * HEARTBEAT_MS, maximum: 86_400_000 }),
  fallback: String(DEFAULT_TRAINER_LIMITS.silenceMs),
  unit: 'ms',
  example: '600000',
  description:
    'A trainer with a job that is silent for this long is killed, and the job continues from its last ' +
    'checkpoint. Raise it if one micro-batch takes longer. One that still starts has at least two minutes.',
});

const generationShare = setting({
  variable: 'GENERATION_SHARE',
  schema: Type.Number({ minimum: 0.01, maximum: 0.9 }),
  fallback: '0.25',
  example: '0.1',
  description:
    'The share of the time that answers under `/v1` get while jobs train. It slows the trainings by as much, and changes ' +
    'none of their numbers.',
});

const generationAtOnce = setting({
  variable: 'GENERATION_AT_ONCE',
  schema: Type.Integer({ minimum: 1, maximum: 1_000 }),
  fallback: '16',
  unit: 'requests',
  example: '16',
  description: 'Requests to `/v1/chat/completions` and `/v1/completions` that a worker answers at once.',
});

const generationCacheBytes = setting({
  variable: 'GENERATION_CACHE_BYTES',
  schema: Type.Integer({ minimum: 2 ** 20, maximum: 2 ** 44 }),
  fallback: String(512 * 2 ** 20),
  unit: 'bytes',
  example: String(2 ** 30),
  description:
    'Memory of a trainer for the keys and values of the texts that it generates, from the first request to a minute after ' +
    'the last. It limits how long prompt and answer may be together, and a request that finds no space waits.',
});

const generationAdapterBytes = setting({
  variable: 'GENERATION_ADAPTER_BYTES',
  schema: Type.Integer({ minimum: 2 ** 20, maximum: 2 ** 44 }),
  fallback: String(256 * 2 ** 20),
  unit: 'bytes',
  example: String(2 ** 30),
  description:
    'Memory of a trainer for the adapters with which it generates text. Beyond it, the least recently used one is removed; a ' +
    'single adapter may be larger.',
});

const generationTimeoutMs = setting({
  variable: 'GENERATION_TIMEOUT_MS',
  schema: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
  fallback: '600000',
  unit: 'ms',
  example: '600000',
  description: 'How long a worker may take for a request under `/v1`, loading the base model included.',
});

const checkpointsKeptHours = setting({
  variable: 'CHECKPOINTS_KEPT_HOURS',
  schema: Type.Integer({ minimum: 1, maximum: 87_600 }),
  fallback: '168',
  unit: 'h',
  example: '168',
  description:
    'How long the checkpoints of an ended job are kept, to resume it or to publish one of them. The same for ' +
    'every worker.',
});

const keyCheckpointBytes = setting({
  variable: 'KEY_CHECKPOINT_BYTES',
  schema: Type.Integer({ minimum: 0, maximum: 2 ** 52 }),
  fallback: String(50 * 2 ** 30),
  unit: 'bytes',
  example: String(10 * 2 ** 30),
  description:
    'Bytes of all checkpoints of an API key. Beyond it, the checkpoints of the jobs that ended longest ago are ' +
    'removed; those of the last ended job and of unfinished jobs count, but are never removed. The same for ' +
    'every worker.',
});

const checkpointsMaxBytes = setting({
  variable: 'CHECKPOINTS_MAX_BYTES',
  schema: Type.Integer({ minimum: 0, maximum: 2 ** 52 }),
  fallback: String(2 ** 40),
  unit: 'bytes',
  example: String(100 * 2 ** 30),
  description:
    'Bytes of all checkpoints together. Beyond it, the checkpoints of the jobs that ended longest ago are ' +
    'removed. The same for every worker.',
});

const device = setting({
  variable: 'DEVICE',
  schema: Type.Enum(['auto', 'gpu', 'cpu']),
  fallback: 'auto',
  example: 'gpu',
  description:
    'The device to train on. `gpu`: if the engine sees no GPU, the worker says what is missing and ends with ' +
    'exit code 69. `auto`: the GPU if the engine sees one, otherwise the CPU.',
});

const gpuEngine = setting({
  variable: 'GPU_ENGINE',
  schema: Type.Enum(['auto', 'cuda', 'tensorflow']),
  fallback: 'auto',
  example: 'cuda',
  description:
    "What computes on the GPU. `cuda`: Lorasmith's own kernels, for compute capability 8.0 and later. `tensorflow`: " +
    'the GPU build of TensorFlow, which only the image `lorasmith-worker-gpu-tensorflow` has, for 6.0 to 9.x. `auto`: ' +
    '`cuda`, and `tensorflow` where that cannot be used, or fails its self-test, and the installation has both. Where ' +
    'the engine computes wrong numbers with plain ops as well, the worker ends with exit code 69.',
});

const gpuSelfTest = setting({
  variable: 'GPU_SELF_TEST',
  schema: Type.Enum(['full', 'small']),
  fallback: 'full',
  example: 'small',
  description:
    'The shapes on which the CUDA engine is compared with the CPU at the first start on a card. `full`: also those of ' +
    'real trainings, which is expected to take up to a minute. `small`: only small ones, for an emulated GPU, or a host on which the ' +
    'test does not end; rates are then measured on small ones, too.',
});

const gpuLoraPadding = setting({
  variable: 'GPU_LORA_PADDING',
  schema: Type.Enum(['both', 'depth']),
  fallback: 'both',
  example: 'depth',
  fault: 'is neither both nor depth',
  description:
    'The products with frozen weights that an adapter alone in a pass is a part of, on the CUDA engine. `both`: the forward and ' +
    'the backward product of each linear layer. `depth`: only the one whose depth it lengthens; the other one would be wider by ' +
    'up to 64 columns, which may take one more column of tiles. Which is faster depends on the card: ' +
    '`npm run gpu-check` measures both. Estimates are those of `both`.',
});

const healthPort = setting({
  variable: 'WORKER_HEALTH_PORT',
  schema: Port,
  fallback: '0',
  example: '8082',
  description: 'Port of `/live` and `/ready`, for a supervisor, and of `/metrics`, for Prometheus; 0 for none.',
});

const healthHost = setting({
  variable: 'WORKER_HEALTH_HOST',
  schema: Type.String({ pattern: '^[A-Za-z0-9.:-]{1,253}$' }),
  fallback: '127.0.0.1',
  example: '0.0.0.0',
  fault: 'is neither an address nor a host name',
  description:
    'Address of `WORKER_HEALTH_PORT`. Use an address other than the loopback for a Prometheus on another host ' +
    'or container. Callers can read metrics, and change nothing.',
});

/** The settings of the worker. Each default is here, or is the constant that its setting names. */
export const WORKER_SETTINGS = {
  logLevel,
  redis: redisSettings,
  dataDir,
  modelsDir,
  store: storeSettings,
  tokenCacheBytes,
  workerName,
  workerClass,
  jobLockMs,
  jobTimeoutMs,
  jobsAtOnce,
  timeSliceMs,
  passTokens,
  trainerIdleMs,
  trainerSilenceMs,
  generation: {
    share: generationShare,
    atOnce: generationAtOnce,
    cacheBytes: generationCacheBytes,
    adapterBytes: generationAdapterBytes,
    timeoutMs: generationTimeoutMs,
  },
  checkpointsKeptHours,
  checkpointBytes: { ofKey: keyCheckpointBytes, inAll: checkpointsMaxBytes },
  device,
  gpuEngine,
  gpuSelfTest,
  gpuLoraPadding,
  health: { host: healthHost, port: healthPort },
  shutdownTimeoutMs,
  tracingEndpoint,
};

export type WorkerConfig = Config<typeof WORKER_SETTINGS>;
