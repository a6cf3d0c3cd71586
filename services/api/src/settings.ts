import { addressOf } from '@lorasmith/client/openai-import';
import { OPENAI_BASE_URL, ProductError } from '@lorasmith/contracts';
import { MAX_LINE_BYTES } from '@lorasmith/planning';
import { WORKER_CLASS_NAME, type WorkerClass } from '@lorasmith/queue';
import {
  dataDir,
  downloadStallMs,
  logLevel,
  mapSetting,
  maxConnections,
  modelsDir,
  Port,
  redisSettings,
  type Setting,
  serviceSecret,
  setting,
  shutdownTimeoutMs,
  storeSettings,
  tokenCacheBytes,
  tracingEndpoint,
} from '@lorasmith/service-kit';
import { Type } from 'typebox';
import { hubEndpoint, hubOffline } from './hub-settings.js';
import { withoutLastSlash } from './judging/judge-client.js';

const count = (variable: string, fallback: number, bounds: [number, number], unit: string, description: string) =>
  setting({
    variable,
    schema: Type.Integer({ minimum: bounds[0], maximum: bounds[1] }),
    fallback: String(fallback),
    unit,
    example: String(fallback),
    description,
  });

/** null where it is not set. */
const optionalSetting = (text: Setting<string>): Setting<string | null> =>
  mapSetting(text, (value) => (value === '' ? null : value));

/** An address without a user, a query and a fragment. */
const SERVER_URL = 'https?://[^/?#@,\\s]+(/[^?#,\\s]*)?';
const GIBIBYTE = 2 ** 30;
/** The address as imports compare it. @throws ProductError `invalid_configuration` */
function importAddress(url: string): string {
  if (URL.canParse(url)) return addressOf(url);
  const message = `The environment is invalid:\n  IMPORT_OPENAI_URLS has ${JSON.stringify(url)}, which is no address.`;
  throw new ProductError('invalid_configuration', message, { param: 'IMPORT_OPENAI_URLS' });
}

/** The address of a server, with a path if a proxy has it under one. */
const SERVER = 'https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9._~-]{1,64}){0,8}/?';
/** The name of an S3 bucket. */
const BUCKET = '[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]';
/** `NAME=GIB`. */
const WORKER_CLASS = `${WORKER_CLASS_NAME}=[0-9]{1,6}([.][0-9]{1,3})?`;

/** `NAME=MEMORY,…` as classes. */
function classesOf(text: string): WorkerClass[] {
  const parts = text === '' ? [] : text.split(',');
  return parts.map((part) => {
    const [name = '', memory] = part.split('=');
    return { name, memory: Number(memory) * GIBIBYTE };
  });
}

/** Everything about the api that can be set. */
export const API_SETTINGS = {
  logLevel,
  dataDir,
  modelsDir,
  store: storeSettings,
  tokenCacheBytes,
  shutdownTimeoutMs,
  maxConnections,
  tracingEndpoint,
  http: {
    host: setting({
      variable: 'API_HOST',
      schema: Type.String({ pattern: '^[A-Za-z0-9.:-]{1,253}$' }),
      fallback: '127.0.0.1',
      example: '127.0.0.1',
      fault: 'is neither an address nor a host name',
      description:
        'Address to listen on. Any address other than the loopback needs API keys; without a key the api does not ' +
        'start there.',
    }),
    publishedHost: setting({
      variable: 'API_PUBLISHED_HOST',
      schema: Type.String({ pattern: '^\\[?[A-Za-z0-9.:-]{0,253}\\]?$' }),
      fallback: '',
      example: '127.0.0.1',
      fault: 'is neither an address nor a host name',
      description:
        'Address at which others reach the api, if it differs from `API_HOST`: in a container, the address of the ' +
        'published port. This address then decides whether keys are needed.',
    }),
    trustNetwork: setting({
      variable: 'API_TRUST_NETWORK',
      schema: Type.Boolean(),
      fallback: 'false',
      example: 'true',
      description:
        '`true`: as long as there are no API keys, everyone who reaches the api may do everything, whatever its ' +
        'address. Use it only behind something that keeps strangers out, such as a proxy with a login.',
    }),
    port: setting({
      variable: 'API_PORT',
      schema: Port,
      fallback: '8080',
      example: '8080',
      description: 'Port to listen on; 0 for any free port.',
    }),
    publicPath: mapSetting(
      setting({
        variable: 'API_PUBLIC_PATH',
        schema: Type.String({ pattern: '^((/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,8})?/?$' }),
        fallback: '',
        example: '/lora',
        fault: 'is not a path such as /lora',
        description:
          'Path under which a proxy serves the api, such as `/lora`: `location`, `/docs` and the OpenAPI document then have it. The ' +
          'proxy may remove it before it forwards, or leave it.',
      }),
      (value) => value.replace(/\/$/, ''),
    ),
    requestTimeoutMs: count(
      'REQUEST_TIMEOUT_MS',
      3_600_000,
      [1_000, 86_400_000],
      'ms',
      'Time limit for a request to arrive, the upload of a dataset included.',
    ),
    uploadStallMs: count(
      'UPLOAD_STALL_MS',
      120_000,
      [1_000, 86_400_000],
      'ms',
      'A request is ended if nothing of its body arrives for this long.',
    ),
    downloadStallMs,
    heartbeatMs: count(
      'EVENT_HEARTBEAT_MS',
      15_000,
      [100, 600_000],
      'ms',
      'Silence in an event stream after which a comment is sent to keep it open.',
    ),
  },
  redis: redisSettings,
  workerClasses: {
    classes: mapSetting(
      setting({
        variable: 'WORKER_CLASSES',
        schema: Type.String({
          pattern: `^(${WORKER_CLASS}(,${WORKER_CLASS}){0,31})?$`,
        }),
        fallback: '',
        example: 'a10g=21,h100=78',
        fault: 'is not a list of classes with their memory in GiB',
        description:
          'Classes of workers that are started when they are needed, as `NAME=GIB,NAME=GIB` (`a10g=21,h100=78`): GIB is the memory that a ' +
          'trainer has there. A job is counted for the first class into which it fits (`lorasmith_worker_class_…` of `/metrics`).',
      }),
      classesOf,
    ),
    secondsPerWorker: count(
      'WORKER_CLASS_SECONDS',
      1_800,
      [1, 31_536_000],
      's',
      'How many seconds of waiting work make one wanted worker of a class. A longer job counts as this many, because it trains on one worker.',
    ),
  },
  registryUrl: setting({
    variable: 'REGISTRY_URL',
    schema: Type.String({ pattern: '^https?://[^/?#]+/?$' }),
    fallback: 'http://127.0.0.1:8081',
    example: 'http://127.0.0.1:8081',
    fault: 'is not an address such as http://host:port',
    description: 'Address of the registry, to which the api forwards `/adapters`.',
  }),
  serviceSecret,
  datasets: {
    maxBytes: count('DATASET_MAX_BYTES', 2 ** 30, [1, 2 ** 40], 'bytes', 'Maximum size of a dataset.'),
    maxLineBytes: count(
      'DATASET_MAX_LINE_BYTES',
      10 * 2 ** 20,
      [1, MAX_LINE_BYTES],
      'bytes',
      'Maximum length of a line of a dataset.',
    ),
    maxRows: count('DATASET_MAX_ROWS', 10_000_000, [1, 100_000_000], 'rows', 'Maximum rows of a dataset.'),
  },
  limits: {
    requestsPerMinute: count(
      'KEY_REQUESTS_PER_MINUTE',
      600,
      [1, 10_000_000],
      'calls',
      'Calls per minute of an API key.',
    ),
    activeJobs: count(
      'KEY_ACTIVE_JOBS',
      100,
      [0, 1_000_000],
      'jobs',
      'Unfinished jobs of an API key, waiting or running.',
    ),
    keptJobs: count(
      'KEY_KEPT_JOBS',
      1_000,
      [1, 1_000_000],
      'jobs',
      'Stored ended jobs of an API key. A new job removes the oldest ones beyond this number, but not their adapters.',
    ),
    totalKeptJobs: count(
      'KEPT_JOBS_MAX',
      10_000,
      [1, 10_000_000],
      'jobs',
      'Stored ended jobs in all. A job needs some KB in Redis, and about 1 MB with all events of a long training.',
    ),
    datasetBytes: count(
      'KEY_DATASET_BYTES',
      50 * 2 ** 30,
      [0, 2 ** 52],
      'bytes',
      'Bytes of all datasets of an API key.',
    ),
    adapterBytes: count(
      'KEY_ADAPTER_BYTES',
      50 * 2 ** 30,
      [0, 2 ** 52],
      'bytes',
      'Bytes of all adapters of an API key, including those reserved by its unfinished jobs.',
    ),
    datasets: count('KEY_DATASETS', 10_000, [1, 10_000_000], 'datasets', 'Number of datasets of an API key.'),
    adapters: count('KEY_ADAPTERS', 10_000, [1, 10_000_000], 'adapters', 'Number of adapters of an API key.'),
    eventStreams: count(
      'KEY_EVENT_STREAMS',
      100,
      [1, 100_000],
      'streams',
      'Open event streams of an API key, per api process.',
    ),
    totalEventStreams: count(
      'EVENT_STREAMS_MAX',
      2_000,
      [1, 100_000],
      'streams',
      'Open event streams, per api process.',
    ),
    transfers: count(
      'KEY_TRANSFERS',
      32,
      [1, 100_000],
      'transfers',
      'Downloads and imports of adapters in progress of an API key, per api process.',
    ),
    totalTransfers: count(
      'TRANSFERS_MAX',
      256,
      [1, 100_000],
      'transfers',
      'Downloads and imports of adapters in progress, per api process.',
    ),
    uploads: count(
      'KEY_UPLOADS',
      16,
      [1, 100_000],
      'uploads',
      'Uploads of datasets in progress of an API key, per api process.',
    ),
    totalUploads: count(
      'UPLOADS_MAX',
      64,
      [1, 100_000],
      'uploads',
      'Uploads of datasets in progress, per api process. Each may hold one line of a dataset in memory.',
    ),
    generationRequests: count(
      'KEY_GENERATION_REQUESTS',
      8,
      [1, 100_000],
      'requests',
      'Requests to `/v1/chat/completions` and `/v1/completions` in progress of an API key, per api process.',
    ),
    totalGenerationRequests: count(
      'GENERATION_REQUESTS_MAX',
      64,
      [1, 100_000],
      'requests',
      'Requests to `/v1/chat/completions` and `/v1/completions` in progress, per api process. Each may take 2 MB in Redis.',
    ),
    waitingJobs: count('QUEUE_MAX_JOBS', 10_000, [1, 1_000_000], 'jobs', 'Jobs waiting for a worker, in all.'),
    totalDatasets: count(
      'DATASETS_MAX',
      100_000,
      [1, 10_000_000],
      'datasets',
      'Number of datasets in all. Each api process keeps their records in memory, about 1 KB each, and scans ' +
        'them for each list and upload.',
    ),
    totalAdapters: count('ADAPTERS_MAX', 100_000, [1, 10_000_000], 'adapters', 'Number of adapters in all.'),
    totalDatasetBytes: count('DATASETS_MAX_BYTES', 2 ** 40, [1, 2 ** 52], 'bytes', 'Bytes of all datasets together.'),
    totalAdapterBytes: count(
      'ADAPTERS_MAX_BYTES',
      2 ** 40,
      [1, 2 ** 52],
      'bytes',
      'Bytes of all adapters together, including those reserved by unfinished jobs.',
    ),
  },
  generation: {
    maxTokens: count(
      'GENERATION_MAX_TOKENS',
      4_096,
      [1, 1_000_000],
      'tokens',
      'Maximum `max_tokens` of an answer under `/v1`, and its default for a chat.',
    ),
    waitMs: count(
      'GENERATION_WAIT_MS',
      10_000,
      [0, 600_000],
      'ms',
      'How long a request for text waits for a worker that can answer it, before 503.',
    ),
    queueMs: count(
      'GENERATION_QUEUE_MS',
      60_000,
      [0, 600_000],
      'ms',
      'How long a request for text waits for its turn while its key, or all keys, have as many in progress as they may, ' +
        'before 429 or 503.',
    ),
  },
  webhooks: {
    url: optionalSetting(
      setting({
        variable: 'WEBHOOK_URL',
        schema: Type.String({ maxLength: 2048 }),
        fallback: '',
        example: 'https://example.com/hooks/lorasmith',
        description:
          'Receives a webhook for the end of every job of every key, besides the webhooks of the jobs. Needs `WEBHOOK_SECRET`.',
      }),
    ),
    secret: optionalSetting(
      setting({
        variable: 'WEBHOOK_SECRET',
        schema: Type.String({ pattern: '^(whsec_[A-Za-z0-9+/]{32,88}={0,2})?$' }),
        fallback: '',
        secret: true,
        example: 'whsec_…',
        fault: 'is not whsec_ and the base64 of 24 to 64 random bytes: echo whsec_$(openssl rand -base64 32)',
        description:
          'Webhooks to `WEBHOOK_URL` are signed with it, those of jobs and their graders with a secret that is derived from it for ' +
          'each key (`GET /webhook-secret`). Without it there are no webhooks. `echo whsec_$(openssl rand -base64 32)` makes one.',
      }),
    ),
    allowPrivate: setting({
      variable: 'WEBHOOK_ALLOW_PRIVATE',
      schema: Type.Boolean(),
      fallback: 'false',
      example: 'true',
      description:
        '`true`: webhooks may go to loopback and private addresses, and over http. A sender of jobs can then have the api send ' +
        'requests into its network.',
    }),
  },
  secretsKey: optionalSetting(
    setting({
      variable: 'SECRETS_KEY',
      schema: Type.String({ pattern: '^([\\x21-\\x7e]{32,512})?$' }),
      fallback: '',
      secret: true,
      example: 'a-long-random-text',
      fault: 'is not a text of 32 to 512 printable characters: openssl rand -base64 32',
      description:
        'What is stored for keys is encrypted with a key that is derived from it: their tokens of the Hugging Face hub (`PUT /hub-token`). ' +
        'Without it no token is stored. After a change they must be stored again. `openssl rand -base64 32` makes one.',
    }),
  ),
  judges: {
    servers: mapSetting(
      setting({
        variable: 'JUDGE_SERVERS',
        schema: Type.String({ pattern: `^(${SERVER_URL}(,${SERVER_URL})*)?$`, maxLength: 4096 }),
        fallback: '',
        example: 'https://api.openai.com/v1',
        fault: 'is no list of addresses that begin with https:// or http://, with commas between them',
        description:
          'Servers with the OpenAI API that graders of type `score_model` and comparisons may ask: their base addresses, with commas between ' +
          'them. Jobs and comparisons name one of them. Models of this service need no entry.',
      }),
      (text) => (text === '' ? [] : text.split(',').map(withoutLastSlash)),
    ),
    apiKey: optionalSetting(
      setting({
        variable: 'JUDGE_API_KEY',
        schema: Type.String({ maxLength: 1024 }),
        fallback: '',
        secret: true,
        example: 'sk-…',
        description: 'The key that is sent to the servers of `JUDGE_SERVERS`.',
      }),
    ),
  },
  importUrls: mapSetting(
    setting({
      variable: 'IMPORT_OPENAI_URLS',
      schema: Type.String({ pattern: `^(none|${SERVER_URL}(,${SERVER_URL}){0,15})$` }),
      fallback: OPENAI_BASE_URL,
      example: `${OPENAI_BASE_URL},https://llm.example.com/v1`,
      fault: `is not a list of addresses such as ${OPENAI_BASE_URL}`,
      description:
        'Addresses that `POST /imports/openai` may call, with commas between them; `none`: no address. The api calls no other, so that a sender ' +
        'cannot have it call into its network. `lora import-openai` calls from the machine on which it runs, and needs none of them.',
    }),
    (text) => (text === 'none' ? [] : text.split(',').map(importAddress)),
  ),
  deliveries: {
    servers: mapSetting(
      setting({
        variable: 'DELIVERY_SERVERS',
        schema: Type.String({ maxLength: 8_192, pattern: `^(${SERVER}(,${SERVER}){0,63})?$` }),
        fallback: '',
        example: 'http://vllm:8000,http://vllm-2:8000',
        fault: 'is not a list of addresses such as http://host:port',
        description:
          'The vLLM servers to which adapters may be delivered, as `http://host:port,…`. They receive files and `DELIVERY_SERVER_KEY`, so ' +
          'list only servers of yours. Empty: none. Needs `DELIVERY_FOLDER`.',
      }),
      (text) => (text === '' ? [] : text.split(',')),
    ),
    serverKey: optionalSetting(
      setting({
        variable: 'DELIVERY_SERVER_KEY',
        schema: Type.String({ pattern: '^[\\x21-\\x7e]{0,512}$' }),
        fallback: '',
        secret: true,
        example: 'a-long-random-text',
        description: 'The API key of these servers (`vllm serve --api-key`).',
      }),
    ),
    folder: optionalSetting(
      setting({
        variable: 'DELIVERY_FOLDER',
        schema: Type.String({ maxLength: 1_024 }),
        fallback: '',
        example: '/srv/lorasmith-deliveries',
        description:
          'The folder into which adapters are delivered: those for servers, which must see it, and those for other programs. Empty: ' +
          'nothing is delivered. Several api processes need the same folder.',
      }),
    ),
    folderOnServer: optionalSetting(
      setting({
        variable: 'DELIVERY_FOLDER_ON_SERVER',
        schema: Type.String({ maxLength: 1_024, pattern: '^(/.*)?$' }),
        fallback: '',
        example: '/deliveries',
        fault: 'is not an absolute path',
        description: 'The path under which the servers see `DELIVERY_FOLDER`, if it is another one.',
      }),
    ),
    buckets: mapSetting(
      setting({
        variable: 'DELIVERY_BUCKETS',
        schema: Type.String({ maxLength: 4_096, pattern: `^(${BUCKET}(,${BUCKET}){0,63})?$` }),
        fallback: '',
        example: 'models,models-of-another-team',
        fault: 'is not a list of bucket names',
        description:
          'The S3 buckets into which adapters may be delivered, with commas between them. Not that of the store: a key could write ' +
          'into the things of others. Empty: none.',
      }),
      (text) => (text === '' ? [] : text.split(',')),
    ),
    s3: {
      endpoint: optionalSetting(
        setting({
          variable: 'DELIVERY_S3_ENDPOINT',
          schema: Type.String({ pattern: '^(https?://[^/?#@]+/?)?$' }),
          fallback: '',
          example: 'http://minio:9000',
          fault: 'is not an address such as http://host:port',
          description: "Address of the S3 service of these buckets, if it is not Amazon's.",
        }),
      ),
      region: setting({
        variable: 'DELIVERY_S3_REGION',
        schema: Type.String({ pattern: '^[a-z0-9-]{1,64}$' }),
        fallback: 'us-east-1',
        example: 'eu-central-1',
        fault: 'is not a region name',
        description: 'Region of these buckets.',
      }),
      forcePathStyle: setting({
        variable: 'DELIVERY_S3_FORCE_PATH_STYLE',
        schema: Type.Boolean(),
        fallback: 'false',
        example: 'true',
        description: '`true`: the bucket is in the path, not in the host name. Most self-hosted S3 services need this.',
      }),
      accessKeyId: optionalSetting(
        setting({
          variable: 'DELIVERY_S3_ACCESS_KEY_ID',
          schema: Type.String({ pattern: '^[\\x21-\\x7e]{0,256}$' }),
          fallback: '',
          secret: true,
          example: 'AKIA…',
          description:
            'Access key for these buckets, with `DELIVERY_S3_SECRET_ACCESS_KEY`. Without both, the credentials come from the standard ' +
            'places, as those of the store do.',
        }),
      ),
      secretAccessKey: optionalSetting(
        setting({
          variable: 'DELIVERY_S3_SECRET_ACCESS_KEY',
          schema: Type.String({ pattern: '^[\\x21-\\x7e]{0,256}$' }),
          fallback: '',
          secret: true,
          example: 'a-long-random-text',
          description: 'Secret of this access key.',
        }),
      ),
    },
    hub: { endpoint: hubEndpoint, offline: hubOffline },
  },
  preflight: {
    threads: count(
      'PREFLIGHT_THREADS',
      2,
      [1, 64],
      'threads',
      'Dry runs of large datasets that are planned at once. Each takes up to four threads. Short ones have two threads of their own.',
    ),
    maxWaiting: count(
      'PREFLIGHT_MAX_WAITING',
      64,
      [0, 10_000],
      'jobs',
      'Maximum jobs that wait to be planned, of one key half as many. Further ones are refused until there are fewer.',
    ),
    timeoutMs: count(
      'PREFLIGHT_TIMEOUT_MS',
      60_000,
      [100, 3_600_000],
      'ms',
      'Time limit for planning a job in a dry run, without waiting for those of others. Each MB of its dataset adds 10 s.',
    ),
    budgetMs: count(
      'PREFLIGHT_BUDGET_MS',
      400,
      [0, 3_600_000],
      'ms',
      'How long `POST /jobs` may tokenize rows before it answers. A job whose rows take longer is queued after the other ' +
        'checks, and its trainer tokenizes them first. 0: always.',
    ),
  },
};
