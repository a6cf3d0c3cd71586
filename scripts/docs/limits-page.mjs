import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';

/**
 * @typedef {import('../../packages/service-kit/dist/index.js').SettingTree} SettingTree
 *
 * @typedef {{ setting: string }} OfSetting the default of a setting
 * @typedef {{ file: string, constant: string, unit: string }} OfConstant a constant in a source file
 * @typedef {[what: string, bound: OfSetting | OfConstant | string, beyond: string]} Row `beyond`: the answer or the effect
 */

const API = 'services/api/src';
const MODEL = 'packages/model-folder/src';
const PULLS = 'packages/base-models/src/pulls';
const GENERATION_QUEUE = 'packages/generation-queue/src';
const LINGERING = 'packages/service-kit/src/lingering-close.ts';
const GENERATION = 'packages/contracts/src/generation-request.ts';
/** @param {string} file @param {string} constant @param {string} unit @returns {OfConstant} */
const fixed = (file, constant, unit) => ({ file, constant, unit });
/** What goes on at once: of one API key, and of all. @param {string} what @param {{ key: string, all: string }} settings @returns {Row[]} */
const atOnce = (what, { key, all }) => [
  [`${what} of an API key, per api process`, { setting: key }, '429 `quota_exceeded`'],
  [`${what}, per api process`, { setting: all }, '503 `service_unavailable`'],
];
/** What is stored: of one API key, and of all. @param {string} what @param {{ key: string, all: string, but?: string }} settings @returns {Row[]} */
const stored = (what, { key, all, but = '' }) => [
  [`${what} of an API key${but}`, { setting: key }, '429 `quota_exceeded`'],
  [`${what} of all keys${but}`, { setting: all }, '507 `storage_full`'],
];

/** Every limit on external input. The values are read from the code. @type {Record<string, Row[]>} */
const LIMITS = {
  Requests: [
    ['Body that is JSON', fixed(`${API}/app.ts`, 'JSON_BODY_LIMIT_BYTES', 'bytes'), '413 `body_too_large`'],
    [
      'Rest of a refused body, which is read and discarded so that its sender can read the answer',
      fixed(LINGERING, 'MAX_BYTES', 'bytes'),
      'the connection is closed',
    ],
    ['Time for it', fixed(LINGERING, 'MAX_MS', 'ms'), 'the connection is closed'],
    ['Time in it without a byte', fixed(LINGERING, 'MAX_SILENCE_MS', 'ms'), 'the connection is closed'],
    [
      'Connections of a service on which it is read',
      fixed(LINGERING, 'MAX_LINGERING', 'connections'),
      'further ones are closed with the answer, which their sender may lose',
    ],
    ['Headers of a request', "16,384 bytes (Node's own)", '431'],
    ['Time for a request to arrive, uploads included', { setting: 'REQUEST_TIMEOUT_MS' }, '408'],
    [
      'Open connections of a service; also at most half of the files that its process may open',
      { setting: 'CONNECTIONS_MAX' },
      'further connections are closed',
    ],
    ['Calls of an API key per minute', { setting: 'KEY_REQUESTS_PER_MINUTE' }, '429 `too_many_requests`'],
    ...atOnce('Open event streams', { key: 'KEY_EVENT_STREAMS', all: 'EVENT_STREAMS_MAX' }),
    ...atOnce('Downloads and imports in progress', { key: 'KEY_TRANSFERS', all: 'TRANSFERS_MAX' }),
    ...atOnce('Uploads in progress', { key: 'KEY_UPLOADS', all: 'UPLOADS_MAX' }),
    ['Download from which the client takes no bytes', { setting: 'DOWNLOAD_STALL_MS' }, 'the download is ended'],
    ['API keys', fixed(`${API}/access/key-store.ts`, 'MAX_KEYS', 'keys'), 'the command refuses'],
    [
      'Message of an error',
      fixed('packages/contracts/src/error.ts', 'MAX_MESSAGE_CHARACTERS', 'characters'),
      'the message is cut',
    ],
    [
      'Faults in an answer',
      fixed('packages/service-kit/src/validation-faults.ts', 'MAX_FAULTS', 'faults'),
      'the rest are left out',
    ],
  ],
  'Requests for text': [
    ['Body', fixed(`${API}/openai/text/text-routes.ts`, 'BODY_LIMIT_BYTES', 'bytes'), '413 `body_too_large`'],
    ['Tokens of an answer', { setting: 'GENERATION_MAX_TOKENS' }, '400 `invalid_request`'],
    ['Answers of a request: prompts times `n`', fixed(GENERATION, 'MAX_CHOICES', 'answers'), '400 `invalid_request`'],
    ['`n`', fixed(GENERATION, 'MAX_N', 'answers'), '400 `invalid_request`'],
    ['Stop texts', fixed(GENERATION, 'MAX_STOP_STRINGS', 'texts'), '400 `invalid_request`'],
    ['Length of a stop text', fixed(GENERATION, 'MAX_STOP_CHARACTERS', 'characters'), '400 `invalid_request`'],
    ['Alternatives of a token', fixed(GENERATION, 'MAX_TOP_LOGPROBS', 'tokens'), '400 `invalid_request`'],
    ['In progress of an API key, per api process', { setting: 'KEY_GENERATION_REQUESTS' }, '429 `rate_limit_exceeded`'],
    ['In progress, per api process', { setting: 'GENERATION_REQUESTS_MAX' }, '503 `service_unavailable`'],
    [
      'Waiting for a worker, in all',
      fixed(`${GENERATION_QUEUE}/generation-client.ts`, 'MAX_WAITING', 'requests'),
      '503 `service_unavailable`',
    ],
    ['Wait for a worker', { setting: 'GENERATION_WAIT_MS' }, '503 `service_unavailable`'],
    ['Stream from which the client takes nothing', { setting: 'DOWNLOAD_STALL_MS' }, 'the connection is closed'],
    [
      'Unread answer in Redis, before its worker holds the rest',
      fixed(`${GENERATION_QUEUE}/piece-writer.ts`, 'MAX_UNREAD_BYTES', 'bytes'),
      'the worker waits',
    ],
    [
      'Unread answer in its worker',
      fixed(`${GENERATION_QUEUE}/piece-writer.ts`, 'MAX_HELD_BYTES', 'bytes'),
      'the answer is ended',
    ],
    [
      'Adapters in `GET /v1/models`',
      fixed(`${API}/openai/models/model-directory.ts`, 'MAX_LISTED_ADAPTERS', 'adapters'),
      'the oldest are left out',
    ],
  ],
  Datasets: [
    ['Dataset', { setting: 'DATASET_MAX_BYTES' }, '413 `body_too_large`'],
    ['Rows', { setting: 'DATASET_MAX_ROWS' }, '422 `invalid_dataset`'],
    ['Line', { setting: 'DATASET_MAX_LINE_BYTES' }, '422 `invalid_dataset`'],
    ['Nesting of a line', fixed(`${API}/datasets/dataset-checker.ts`, 'MAX_DEPTH', 'levels'), '422 `invalid_dataset`'],
    [
      'Messages in a row',
      fixed('packages/contracts/src/dataset.ts', 'MAX_MESSAGES', 'messages'),
      '422 `invalid_dataset`',
    ],
    [
      'Tokens of a row in `GET /datasets/:id/rows`',
      fixed('packages/contracts/src/dataset-row-view.ts', 'MAX_ROW_TOKENS', 'tokens'),
      'only the first are shown',
    ],
    [
      'Characters of a row there',
      fixed('packages/contracts/src/dataset-row-view.ts', 'MAX_ROW_CHARACTERS', 'characters'),
      'only the first are shown',
    ],
    [
      'Tokens of all rows of an answer there, to the end of the last row',
      fixed('packages/planning/src/view-rows.ts', 'MOST_TOKENS', 'tokens'),
      'the page has fewer rows',
    ],
    [
      'Tools of a row or a chat; calls of a message',
      fixed('packages/contracts/src/message.ts', 'MAX_TOOLS', 'tools'),
      '422 `invalid_dataset`, 400 `invalid_request`',
    ],
    [
      'Parts of a message',
      fixed('packages/contracts/src/message.ts', 'MAX_PARTS', 'parts'),
      '422 `invalid_dataset`, 400 `invalid_request`',
    ],
    [
      'Faults of a refused file',
      fixed(`${API}/datasets/dataset-checker.ts`, 'MAX_LISTED_FAULTS', 'faults'),
      'checking stops there',
    ],
    ...stored('Datasets', {
      ...{ key: 'KEY_DATASETS', all: 'DATASETS_MAX' },
      but: '; simultaneous uploads may exceed it by their number, and a file that the key already has is 200',
    }),
    [
      'Uploads with `base_model` that wait to be tokenized',
      fixed(`${API}/datasets/token-preparations.ts`, 'MAX_WAITING', 'datasets'),
      'further ones are not prepared; their first jobs tokenize them',
    ],
    ...stored('Bytes of the datasets', { key: 'KEY_DATASET_BYTES', all: 'DATASETS_MAX_BYTES' }),
  ],
  Jobs: [
    ['Rank', '512', '400 `invalid_request`'],
    [
      '`max_seq_length`',
      "1,048,576 tokens, and never more than the model's positions",
      '400 `invalid_request`; 422 `row_too_long` for a row that needs more, unless `on_overflow` says otherwise',
    ],
    ['Names in `target_modules`', '4,096 of up to 256 characters', '400 `invalid_request`'],
    ['Prompts of samples', '8 of up to 16,384 characters or 64 messages', '400 `invalid_request`'],
    [
      'Prompt of a sample with its answer',
      fixed('packages/contracts/src/samples.ts', 'MAX_SAMPLE_TOKENS', 'tokens'),
      '422 `invalid_job`',
    ],
    [
      'Answer of a sample',
      '512 tokens and 2,048 characters',
      'it is cut; 400 `invalid_request` for a higher `max_tokens`',
    ],
    [
      'Times that a job answers its prompts',
      fixed('packages/contracts/src/samples.ts', 'MAX_SAMPLE_ROUNDS', 'times'),
      '422 `invalid_job`',
    ],
    ['Regular expression in `target_modules`', '1,024 characters', '400 `invalid_request`'],
    [
      'Compiled size of a regular expression, which is matched in linear time',
      fixed('packages/model-folder/src/module-pattern.ts', 'MAX_PROGRAM_SIZE', 'instructions'),
      '422 `invalid_job`',
    ],
    [
      'Regular expressions in a pattern table',
      fixed('packages/model-folder/src/module-pattern.ts', 'MAX_EXPRESSIONS', 'expressions'),
      '422 `invalid_job`',
    ],
    [
      'Rendering of a chat template',
      fixed(`${MODEL}/bounded-interpreter.ts`, 'MAX_STEPS', 'steps'),
      '422 `chat_template_failed`',
    ],
    [
      'Output of a chat template',
      fixed(`${MODEL}/bounded-interpreter.ts`, 'MAX_OUTPUT_CHARACTERS', 'characters'),
      '422 `chat_template_failed`',
    ],
    ['Tokenizing rows before `POST /jobs` answers', { setting: 'PREFLIGHT_BUDGET_MS' }, 'the job tokenizes them first'],
    ['Planning of a dry run', { setting: 'PREFLIGHT_TIMEOUT_MS' }, '504 `timeout`'],
    [
      'More time to plan for each MB of the dataset',
      fixed(`${API}/jobs/preflight.ts`, 'MS_PER_MEGABYTE', 'ms'),
      '504 `timeout`',
    ],
    ['Memory of each planning thread', fixed(`${API}/jobs/preflight.ts`, 'MAX_HEAP_MB', 'MB'), '422 `does_not_fit`'],
    ['Dry runs waiting to be planned', { setting: 'PREFLIGHT_MAX_WAITING' }, '503 `service_unavailable`'],
    ['Unfinished jobs of an API key', { setting: 'KEY_ACTIVE_JOBS' }, '429 `quota_exceeded`'],
    ['Jobs waiting for a worker', { setting: 'QUEUE_MAX_JOBS' }, '429 `queue_full`'],
    ['Ended jobs kept of an API key', { setting: 'KEY_KEPT_JOBS' }, 'the oldest are removed; their adapters stay'],
    ['Ended jobs kept of all', { setting: 'KEPT_JOBS_MAX' }, 'the oldest are removed; their adapters stay'],
    ['Time of a job, from its start', { setting: 'JOB_TIMEOUT_MS' }, 'the job fails with `job_timed_out`'],
    ['Silence of a trainer', { setting: 'TRAINER_SILENCE_MS' }, 'it is killed: `trainer_hung`'],
    [
      'Attempts of a job whose trainer crashes',
      fixed('packages/job-store/src/queue/job-queue.ts', 'MAX_ATTEMPTS', 'attempts'),
      'the job fails',
    ],
    [
      'Events kept of a job',
      fixed('packages/job-store/src/scripts/record-part.ts', 'MAX_EVENTS', 'events, about'),
      'the oldest are removed',
    ],
  ],
  Adapters: [
    ['Tar of an import', { setting: 'IMPORT_MAX_BYTES' }, '413 `body_too_large`'],
    [
      'Stored tensors of an import: float32, all layers with the largest rank',
      { setting: 'IMPORT_MAX_BYTES' },
      '422 `invalid_adapter`',
    ],
    [
      'Entries of the tar',
      fixed('services/registry/src/importing/adapter-tar.ts', 'MAX_ENTRIES', 'entries'),
      '422 `invalid_adapter`',
    ],
    [
      '`adapter_config.json`',
      fixed('services/registry/src/importing/adapter-tar.ts', 'MAX_CONFIG_BYTES', 'bytes'),
      '422 `invalid_adapter`',
    ],
    [
      'Header of a safetensors file',
      fixed('packages/safetensors/src/header.ts', 'MAX_HEADER_BYTES', 'bytes'),
      '422 `invalid_adapter`',
    ],
    [
      'Name of a tensor',
      fixed('packages/safetensors/src/header.ts', 'MAX_NAME_CHARACTERS', 'characters'),
      '422 `invalid_adapter`',
    ],
    ['Rank of an imported adapter', fixed('packages/contracts/src/job.ts', 'MAX_RANK', ''), '422 `invalid_adapter`'],
    ['Time to check an import', { setting: 'IMPORT_TIMEOUT_MS' }, '504 `timeout`'],
    ...stored('Adapters', {
      ...{ key: 'KEY_ADAPTERS', all: 'ADAPTERS_MAX' },
      but: '; simultaneous imports and jobs may exceed it by their number',
    }),
    ...stored('Bytes of the adapters', { key: 'KEY_ADAPTER_BYTES', all: 'ADAPTERS_MAX_BYTES' }),
    [
      'Bytes of all checkpoints of an API key',
      { setting: 'KEY_CHECKPOINT_BYTES' },
      'those of the jobs that ended longest ago are removed, those of unfinished jobs never',
    ],
    ['Bytes of all checkpoints', { setting: 'CHECKPOINTS_MAX_BYTES' }, 'the same'],
    ['Time of a merge', { setting: 'MERGE_TIMEOUT_MS' }, '504 `timeout`'],
    [
      'Waiting merges',
      fixed('services/registry/src/merging/merged-models.ts', 'MAX_WAITING', 'merges'),
      '503 `service_unavailable`',
    ],
    ['Merged models on disk', { setting: 'MERGED_CACHE_BYTES' }, 'the least recently used is removed'],
  ],
  'Base models': [
    ['`config.json`', fixed(`${MODEL}/model-folder.ts`, 'MAX_CONFIG_BYTES', 'bytes'), '422 `model_file_corrupt`'],
    ['`tokenizer.json`', fixed(`${MODEL}/tokenizer.ts`, 'MAX_TOKENIZER_BYTES', 'bytes'), '422 `model_file_corrupt`'],
    ['Chat template', fixed(`${MODEL}/chat-template.ts`, 'MAX_TEMPLATE_BYTES', 'bytes'), '422 `chat_template_failed`'],
    ['Weight files', fixed(`${MODEL}/weight-files.ts`, 'MAX_SHARDS', 'files'), '422 `model_file_corrupt`'],
    [
      'Header of a GGUF file',
      fixed('packages/gguf/src/gguf-file.ts', 'MAX_HEADER_BYTES', 'bytes'),
      'the file is not imported',
    ],
    [
      'A model that is pulled from the hub',
      { setting: 'MODEL_PULL_MAX_BYTES' },
      'the pull fails: `model_not_supported`',
    ],
    ['Disk that a pull leaves free', { setting: 'MODEL_PULL_KEEP_FREE_BYTES' }, 'the pull fails: `storage_full`'],
    [
      'One of its files other than weights',
      fixed(`${PULLS}/choose-files.ts`, 'MAX_SMALL_BYTES', 'bytes'),
      'the pull fails',
    ],
    [
      'An answer of the API of the hub',
      fixed(`${PULLS}/hub/hub-fetch.ts`, 'MAX_JSON_BYTES', 'bytes'),
      'the pull fails',
    ],
    ['Files at the top of its repository', fixed(`${PULLS}/hub/hub-client.ts`, 'MAX_FILES', 'files'), 'the pull fails'],
    ['Stored pulls', fixed(`${PULLS}/pull-store.ts`, 'MAX_PULLS', 'pulls'), 'the oldest ended one is removed'],
  ],
};

const INTRODUCTION = `<!-- Written by \`npm run docs\` from the settings and constants of the code. Change scripts/docs/limits-page.mjs, not this page. -->

# Limits

Everything that comes from outside has a limit. If a limit has a variable, the table shows its default, and you can change it
([configuration.md](configuration.md)); you can also set the limits of one API key when you make it
(\`npm run keys -- create … --active-jobs 5\`). The other limits are constants in the code, which says why they have their values.`;

/**
 * Writes docs/limits.md.
 *
 * @param {Record<string, SettingTree>} services
 * @param {Pick<typeof import('../../packages/service-kit/dist/index.js'), 'settingsOf'>} serviceKit
 * @returns {Promise<string>}
 * @throws {Error} for a setting or a constant that does not exist
 */
export async function limitsPage(services, { settingsOf }) {
  const settings = new Map(
    Object.values(services)
      .flatMap(settingsOf)
      .map((setting) => [setting.variable, setting]),
  );
  /** @param {Row[1]} bound */
  const cells = async (bound) => {
    if (typeof bound === 'string') return [bound, ''];
    if ('constant' in bound) return [`${grouped(await constantOf(bound))} ${bound.unit}`.trim(), ''];
    const setting = settings.get(bound.setting);
    if (!setting?.fallback) throw new Error(`scripts/docs/limits-page.mjs: there is no setting ${bound.setting}`);
    return [`${grouped(Number(setting.fallback))} ${setting.unit ?? ''}`.trim(), `\`${bound.setting}\``];
  };
  const sections = Object.entries(LIMITS).map(async ([title, rows]) => {
    const lines = rows.map(async ([what, bound, beyond]) => {
      const [value, variable] = await cells(bound);
      return `| ${what} | ${value} | ${variable} | ${beyond} |`;
    });
    const head = '| What | Limit | Variable | Beyond it |\n| --- | --- | --- | --- |';
    return `## ${title}\n\n${head}\n${(await Promise.all(lines)).join('\n')}`;
  });
  return `${[INTRODUCTION, ...(await Promise.all(sections))].join('\n\n')}\n`;
}

/** The value of `const NAME = …`, a number or a product of numbers. @param {OfConstant} constant @returns {Promise<number>} */
async function constantOf({ file, constant }) {
  const source = await readFile(path.join(ROOT_DIR, file), 'utf8');
  const text = new RegExp(`^(?:export )?const ${constant} = ([\\d_]+(?: \\*\\*? [\\d_]+)*);`, 'm').exec(source)?.[1];
  if (text === undefined) throw new Error(`scripts/docs/limits-page.mjs: there is no constant ${constant} in ${file}`);
  const factors = text.replaceAll('_', '').split(/ \* (?!\*)/);
  return factors.reduce((product, factor) => {
    const [base = '', exponent = '1'] = factor.split(' ** ');
    return product * Number(base) ** Number(exponent);
  }, 1);
}

/** @param {number} value */
function grouped(value) {
  return value.toLocaleString('en-US');
}
