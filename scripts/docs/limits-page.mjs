/**
 * @typedef {import('../../packages/service-kit/dist/index.js').SettingTree} SettingTree
 *
 * @typedef {{ value: number, unit: string, beyond: string }} Limit `beyond`: the answer or the effect
 * @typedef {Record<keyof typeof LIMITS_IN, any>} Limits records of {@link Limit}, whose names the type check does not see
 * @typedef {[what: string, setting: string, beyond: string] | [what: string, limit: Limit]} Row
 */

/** The modules that export the limits, beside their constants. SRC stands for the folder of sources or of compiled code. */
const LIMITS_IN = {
  httpLimits: 'services/api/SRC/app.js',
  keyLimits: 'services/api/SRC/access/key-store.js',
  errorLimits: 'packages/contracts/SRC/error.js',
  sessionLimits: 'packages/contracts/SRC/training-session.js',
  trainingSessionLimits: 'packages/queue/SRC/training-sessions/session-client.js',
  tinkerLimits: 'services/api/SRC/tinker/model-routes.js',
  samplingLimits: 'services/api/SRC/tinker/sampling-routes.js',
  faultLimits: 'packages/service-kit/SRC/request-validation.js',
  bodyLimits: 'packages/service-kit/SRC/request-validation.js',
  logLimits: 'packages/service-kit/SRC/logger.js',
  refusalLogLimits: 'packages/service-kit/SRC/error-answer.js',
  lingeringLimits: 'packages/service-kit/SRC/connections.js',
  schemaLimits: 'packages/json-grammar/SRC/schema-terms.js',
  textLimits: 'services/api/SRC/openai/text-routes.js',
  wholeAnswerLimits: 'services/api/SRC/openai/answer-request.js',
  generationLimits: 'packages/contracts/SRC/generation.js',
  waitingLimits: 'services/api/SRC/access/concurrency-limit.js',
  queueLimits: 'packages/queue/SRC/generation/generation-client.js',
  unreadLimits: 'packages/queue/SRC/generation/chunk-writer.js',
  modelListLimits: 'services/api/SRC/openai/model-directory.js',
  datasetCheckLimits: 'services/api/SRC/datasets/dataset-checker.js',
  lineLimits: 'packages/planning/SRC/json-lines.js',
  longRecordLimits: 'services/api/SRC/datasets/row-checks.js',
  growthLimits: 'services/api/SRC/datasets/dataset-catalog.js',
  rowCheckLimits: 'services/api/SRC/datasets/row-checks.js',
  fileReadingLimits: 'services/api/SRC/datasets/bounded-reader.js',
  csvLimits: 'packages/row-files/SRC/csv-lines.js',
  parquetLimits: 'packages/row-files/SRC/parquet-lines.js',
  datasetLimits: 'packages/contracts/SRC/dataset.js',
  rowViewLimits: 'packages/contracts/SRC/dataset.js',
  rowPageLimits: 'packages/planning/SRC/view-rows.js',
  messageLimits: 'packages/contracts/SRC/message.js',
  preparationLimits: 'services/api/SRC/datasets/token-preparations.js',
  sampleLimits: 'packages/contracts/SRC/samples.js',
  graderLimits: 'packages/contracts/SRC/grading.js',
  answerRoundLimits: 'packages/contracts/SRC/group-relative.js',
  gradingLimits: 'packages/contracts/SRC/grading.js',
  judgeLimits: 'services/api/SRC/judging/judge-client.js',
  gradingSenderLimits: 'services/api/SRC/grading/grading-sender.js',
  jobLimits: 'packages/contracts/SRC/job.js',
  jobSearchLimits: 'packages/queue/SRC/jobs/search-jobs.js',
  detailsLimits: 'packages/contracts/SRC/details.js',
  aliasLimits: 'packages/contracts/SRC/alias.js',
  sweepLimits: 'packages/contracts/SRC/sweep.js',
  deliveryRequestLimits: 'packages/contracts/SRC/delivery.js',
  deliveryLimits: 'packages/queue/SRC/deliveries/delivery-store.js',
  comparisonLimits: 'packages/contracts/SRC/comparison.js',
  comparisonStoreLimits: 'packages/queue/SRC/comparisons/comparison-store.js',
  comparisonRequestLimits: 'services/api/SRC/comparisons/comparison-requests.js',
  comparisonRunnerLimits: 'services/api/SRC/comparisons/comparison-runner.js',
  rowComparisonLimits: 'services/api/SRC/comparisons/row-comparison.js',
  askedRowLimits: 'packages/planning/SRC/asked-rows.js',
  sweepStoreLimits: 'packages/queue/SRC/sweeps/sweep-store.js',
  patternLimits: 'packages/model-folder/SRC/module-pattern.js',
  renderingLimits: 'packages/model-folder/SRC/template/template-interpreter.js',
  preflightLimits: 'services/api/SRC/jobs/preflight.js',
  attemptLimits: 'packages/queue/SRC/queue/job-queue.js',
  eventLimits: 'packages/queue/SRC/events/event-stream.js',
  thinningLimits: 'packages/queue/SRC/events/thinned-events.js',
  tarLimits: 'services/registry/SRC/importing/adapter-tar.js',
  headerLimits: 'packages/weight-files/SRC/safetensors/header.js',
  adapterNumberLimits: 'packages/peft-files/SRC/fits-base.js',
  mergeLimits: 'services/registry/SRC/merging/merged-models.js',
  configLimits: 'packages/model-folder/SRC/model-folder.js',
  tokenizerLimits: 'packages/model-folder/SRC/tokenizer/tokenizer.js',
  templateLimits: 'packages/model-folder/SRC/template/chat-template.js',
  quantizedLimits: 'packages/model-folder/SRC/weight-formats/weight-parts.js',
  shardLimits: 'packages/model-folder/SRC/weights/locate-tensors.js',
  smallFileLimits: 'packages/base-models/SRC/pulls/choose-files.js',
  hubAnswerLimits: 'packages/hub/SRC/hub-fetch.js',
  repositoryLimits: 'packages/hub/SRC/hub-repository.js',
  openaiImportLimits: 'packages/contracts/SRC/openai-import.js',
  openaiWireLimits: 'packages/client/SRC/openai-import/openai-wire.js',
  retryDelayLimits: 'packages/client/SRC/openai-import/retry-delay.js',
  pulledRowsLimits: 'packages/client/SRC/hub-dataset.js',
  pullLimits: 'packages/base-models/SRC/pulls/pull-store.js',
};

/** Rows for things that go on at once: of one API key, and of all. @param {string} what @param {{ key: string, all: string }} settings @returns {Row[]} */
const atOnce = (what, { key, all }) => [
  [`${what} of an API key, per api process`, key, '429 `quota_exceeded`'],
  [`${what}, per api process`, all, '503 `service_unavailable`'],
];
/** Rows for stored things: of one API key, and of all. @param {string} what @param {{ key: string, all: string }} settings @returns {Row[]} */
const stored = (what, { key, all }) => [
  [`${what} of an API key`, key, '429 `quota_exceeded`'],
  [`${what} of all keys`, all, '507 `storage_full`'],
];

/** Every limit on external input. @type {(limits: Limits) => Record<string, Row[]>} */
const sectionsOf = (limits) => ({
  Requests: [
    ['Body that is JSON', limits.httpLimits.jsonBody],
    [
      'Rest of a refused body, which is read and discarded so that its sender can read the answer',
      limits.lingeringLimits.bytes,
    ],
    ['Time for it', limits.lingeringLimits.time],
    ['Time in it without a byte', limits.lingeringLimits.silence],
    ['Connections of a service on which it is read', limits.lingeringLimits.connections],
    ['Headers of a request', { value: 16_384, unit: "bytes (Node's own)", beyond: '431' }],
    ['Time for a request to arrive, uploads included', 'REQUEST_TIMEOUT_MS', '408'],
    [
      'Open connections of a service; also at most half of the files that its process may open',
      'CONNECTIONS_MAX',
      'further connections are closed',
    ],
    ['Calls of an API key per minute', 'KEY_REQUESTS_PER_MINUTE', '429 `too_many_requests`'],
    ...atOnce('Open event streams', { key: 'KEY_EVENT_STREAMS', all: 'EVENT_STREAMS_MAX' }),
    ...atOnce('Downloads and imports in progress', { key: 'KEY_TRANSFERS', all: 'TRANSFERS_MAX' }),
    ...atOnce('Uploads in progress', { key: 'KEY_UPLOADS', all: 'UPLOADS_MAX' }),
    ['Body of a request of which nothing arrives', 'UPLOAD_STALL_MS', '408 `timeout`'],
    ['Download from which the client takes no bytes', 'DOWNLOAD_STALL_MS', 'the download is ended'],
    ['API keys', limits.keyLimits.keys],
    ['Message of an error', limits.errorLimits.message],
    ['Faults in an answer', limits.faultLimits.faults],
    ['Nesting of a JSON body', limits.bodyLimits.nesting],
    ['Lines of a log about failed requests, of one code and one key', limits.refusalLogLimits.lines],
    ['Field of a line of a log (a stack trace: 8,000)', limits.logLimits.field],
    ['Line of a log', limits.logLimits.line],
  ],
  'Requests for text': [
    ['Body', limits.textLimits.body],
    ['Tokens of an answer', 'GENERATION_MAX_TOKENS', '400 `invalid_request`'],
    ['Answers of a request: prompts times `n`', limits.generationLimits.answers],
    ['`n`', limits.generationLimits.n],
    ['Stop texts', limits.generationLimits.stopTexts],
    ['Length of a stop text', limits.generationLimits.stopText],
    ['Alternatives of a token', limits.generationLimits.alternatives],
    ['Log-probabilities of an answer that is not streamed', limits.wholeAnswerLimits.logprobs],
    ['Nesting of the schema of an answer', limits.schemaLimits.depth],
    ['Schemas within it', limits.schemaLimits.schemas],
    ['Properties of an object in it', limits.schemaLimits.properties],
    ['Values of `enum` and `const` in it', limits.schemaLimits.values],
    ['`minItems`, `maxItems`, `minLength`, `maxLength` in it', limits.schemaLimits.counts],
    ['In progress of an API key, per api process', 'KEY_GENERATION_REQUESTS', 'further ones wait'],
    ['In progress, per api process', 'GENERATION_REQUESTS_MAX', 'further ones wait'],
    ['Waiting for that, of an API key', limits.waitingLimits.ofKey],
    ['Waiting for that', limits.waitingLimits.inAll],
    ['Time of waiting for that', 'GENERATION_QUEUE_MS', '429 `rate_limit_exceeded`, or 503'],
    ['Waiting for a worker, in all', limits.queueLimits.waiting],
    ['Wait for a worker', 'GENERATION_WAIT_MS', '503 `service_unavailable`'],
    ['Stream from which the client takes nothing', 'DOWNLOAD_STALL_MS', 'the connection is closed'],
    ['Unread answer in Redis, before its worker holds the rest', limits.unreadLimits.inRedis],
    ['Unread answer in its worker', limits.unreadLimits.inWorker],
    ['Adapters in `GET /v1/models`', limits.modelListLimits.adapters],
  ],
  Datasets: [
    ['Dataset', 'DATASET_MAX_BYTES', '413 `body_too_large`'],
    ['Rows', 'DATASET_MAX_ROWS', '422 `invalid_dataset`'],
    ['Line', 'DATASET_MAX_LINE_BYTES', '422 `invalid_dataset`'],
    ['Nesting of a line', limits.lineLimits.nesting],
    ['Messages in a row', limits.datasetLimits.messages],
    ['Tokens of a row in `GET /datasets/:id/rows`', limits.rowViewLimits.tokens],
    ['Characters of a row there', limits.rowViewLimits.characters],
    ['Tokens of all rows of an answer there, to the end of the last row', limits.rowPageLimits.tokens],
    ['Tools of a row or a chat; calls of a message', limits.messageLimits.tools],
    ['Parts of a message', limits.messageLimits.parts],
    ['Faults of a refused file', limits.datasetCheckLimits.faults],
    ['Columns of a CSV file', limits.csvLimits.columns],
    ['Row of a CSV file that is not long', limits.csvLimits.longRecord],
    ['Uploads in progress with a long CSV row, of an API key, per api process', limits.longRecordLimits.ofKey],
    ['Uploads in progress with a long CSV row, per api process', limits.longRecordLimits.inAll],
    ['Compressed or Parquet file, unpacked', limits.growthLimits.times],
    ['Such a file to which that does not apply, unpacked', limits.growthLimits.beyond],
    ['Work on the rows of an upload, without waiting for a turn', limits.rowCheckLimits.work],
    ['Memory of a thread that checks rows', limits.rowCheckLimits.heap],
    ['Row group of a Parquet file, unpacked', limits.parquetLimits.rowGroup],
    ['Memory of the process that reads a Parquet or zstd file', limits.fileReadingLimits.heap],
    ['Time in which it does', limits.fileReadingLimits.time],
    ['Such files read at once, of an API key, per api process', limits.fileReadingLimits.ofKey],
    ['Such files read at once, per api process', limits.fileReadingLimits.inAll],
    ['Time of waiting for that', limits.fileReadingLimits.wait],
    ...stored('Datasets', { key: 'KEY_DATASETS', all: 'DATASETS_MAX' }),
    ['Uploads with `base_model` that wait to be tokenized', limits.preparationLimits.waiting],
    ...stored('Bytes of the datasets', { key: 'KEY_DATASET_BYTES', all: 'DATASETS_MAX_BYTES' }),
  ],
  Jobs: [
    ['Rank', limits.jobLimits.rank],
    ['Variants of a sweep', limits.sweepLimits.variants],
    ['Fields that differ between them', limits.sweepLimits.fields],
    ['Records of sweeps', limits.sweepStoreLimits.kept],
    ['`max_seq_length`', limits.jobLimits.sequence],
    ['Names in `target_modules`', limits.jobLimits.moduleNames],
    ['Prompts of samples', limits.sampleLimits.prompts],
    ['Held-out rows that samples answer', limits.sampleLimits.heldOut],
    ['Prompt of a sample with its answer', limits.sampleLimits.tokens],
    ['Answer of a sample', limits.sampleLimits.answer],
    ['Times that a job answers its prompts', limits.sampleLimits.rounds],
    ['Graders of a formula', limits.graderLimits.graders],
    ['Template of a grader', limits.graderLimits.template],
    ['Pattern of a grader', limits.graderLimits.pattern],
    ['Formula of graders', limits.graderLimits.formula],
    ['Steps of which graded answers are kept', limits.answerRoundLimits.rounds],
    ['Answers of such a step', limits.answerRoundLimits.answers],
    ['Text of such an answer', limits.answerRoundLimits.text],
    ['Answers in a request to a webhook of a grader', limits.gradingLimits.answers],
    ['Their bytes, unless one alone has more', limits.gradingLimits.bytes],
    ['Answer of that webhook', limits.gradingLimits.rewards],
    ['Time of such a request', limits.graderLimits.timeout],
    ['Answer of a judge', limits.judgeLimits.answer],
    ['Answer of a judge that is a model of this service', limits.judgeLimits.tokens],
    ['Attempts at such a request', limits.gradingSenderLimits.attempts],
    ['Such requests at once, per api process', limits.gradingSenderLimits.atOnce],
    ['Regular expression in `target_modules`', limits.jobLimits.modulePattern],
    ['Compiled size of a regular expression, which is matched in linear time', limits.patternLimits.program],
    ['Regular expressions in a pattern table', limits.patternLimits.expressions],
    ['Rendering of a chat template', limits.renderingLimits.steps],
    ['Output of a chat template', limits.renderingLimits.output],
    ['Tokenizing rows before `POST /jobs` answers', 'PREFLIGHT_BUDGET_MS', 'the job tokenizes them first'],
    ['Planning of a dry run', 'PREFLIGHT_TIMEOUT_MS', '504 `timeout`'],
    ['Time of waiting for that', limits.preflightLimits.wait],
    ['More time to plan for each MB of the dataset', limits.preflightLimits.perMegabyte],
    ['More time to plan for each further variant of a sweep', limits.preflightLimits.perVariant],
    ['Preparing the tokens of a dataset', limits.preflightLimits.preparing],
    ['Memory of each planning thread', limits.preflightLimits.heap],
    [
      'Dry runs waiting to be planned',
      'PREFLIGHT_MAX_WAITING',
      '503 `service_unavailable`; 429 `quota_exceeded` for half of them of one key',
    ],
    ['Unfinished jobs of an API key', 'KEY_ACTIVE_JOBS', '429 `quota_exceeded`'],
    ['Jobs waiting for a worker', 'QUEUE_MAX_JOBS', '429 `queue_full`'],
    ['Ended jobs kept of an API key', 'KEY_KEPT_JOBS', 'the oldest are removed; their adapters stay'],
    ['Ended jobs kept of all', 'KEPT_JOBS_MAX', 'the oldest are removed; their adapters stay'],
    ['Jobs that a list searches or sorts, the newest of them', limits.jobSearchLimits.searched],
    ['Tags of a job, an adapter or a dataset', limits.detailsLimits.tags],
    ['Its note', limits.detailsLimits.note],
    ['Time of a job, from its start', 'JOB_TIMEOUT_MS', 'the job fails with `job_timed_out`'],
    ['Silence of a trainer', 'TRAINER_SILENCE_MS', 'it is killed: `trainer_hung`'],
    ['Attempts of a job whose trainer crashes', limits.attemptLimits.attempts],
    ['Events kept of a job or a sweep', limits.eventLimits.events],
    ['Steps kept in the events of an ended job', limits.thinningLimits.steps],
    ['Steps with graded answers kept in the events of an ended job', limits.thinningLimits.rounds],
  ],
  'Training sessions': [
    ['Body of a forward-backward', limits.tinkerLimits.body],
    ['Rows of a forward-backward', limits.tinkerLimits.data],
    ['Targets of a position, of soft targets', limits.sessionLimits.targetsEach],
    ['Open sessions', limits.trainingSessionLimits.sessions],
    ['Models of an API key that have not ended', limits.trainingSessionLimits.models],
    ['Calls of a model that wait', limits.trainingSessionLimits.ops],
    ['Bytes of these calls', limits.trainingSessionLimits.opBytes],
    ['Snapshots of a session to sample from', limits.trainingSessionLimits.snapshots],
    ['Silence of a client', limits.trainingSessionLimits.silence],
    ['Body of a call that samples', limits.samplingLimits.body],
    ['Calls that wait to be sampled, per api process', limits.samplingLimits.waiting],
  ],
  Adapters: [
    ['Tar of an import', 'IMPORT_MAX_BYTES', '413 `body_too_large`'],
    [
      'Stored tensors of an import: float32, all layers with the largest rank',
      'IMPORT_MAX_BYTES',
      '422 `invalid_adapter`',
    ],
    ['Entries of the tar', limits.tarLimits.entries],
    ['`adapter_config.json`', limits.tarLimits.config],
    ['Header of a safetensors file', limits.headerLimits.bytes],
    ['Name of a tensor', limits.headerLimits.name],
    ['Rank of an imported adapter', limits.jobLimits.importedRank],
    [
      'Scale, number of A, number of B with its scale, and their product, of an import',
      limits.adapterNumberLimits.number,
    ],
    ['Time to check an import', 'IMPORT_TIMEOUT_MS', '504 `timeout`'],
    ...stored('Adapters', { key: 'KEY_ADAPTERS', all: 'ADAPTERS_MAX' }),
    ...stored('Bytes of the adapters', { key: 'KEY_ADAPTER_BYTES', all: 'ADAPTERS_MAX_BYTES' }),
    [
      'Bytes of all checkpoints of an API key',
      'KEY_CHECKPOINT_BYTES',
      'those of the jobs that ended longest ago are removed, those of unfinished jobs never',
    ],
    ['Bytes of all checkpoints', 'CHECKPOINTS_MAX_BYTES', 'the same'],
    ['Names of adapters of an API key', limits.aliasLimits.names],
    ['Moves in the history of a name', limits.aliasLimits.history],
    ['Reason of a move', limits.aliasLimits.reason],
    ['Rows of the dataset of a guard', limits.aliasLimits.guardRows],
    ['Time of a merge', 'MERGE_TIMEOUT_MS', '504 `timeout`'],
    ['Waiting merges', limits.mergeLimits.waiting],
    ['Merged models on disk', 'MERGED_CACHE_BYTES', 'the least recently used is removed'],
    ['Deliveries of a job', limits.deliveryRequestLimits.ofJob],
    ['Unfinished deliveries', limits.deliveryLimits.open],
    ['Records of deliveries', limits.deliveryLimits.kept],
    ['Deliveries of an adapter in a list', limits.deliveryLimits.listed],
  ],
  Comparisons: [
    ['Rows of a comparison', limits.comparisonLimits.rows],
    ['Bytes of a line that is compared', limits.askedRowLimits.bytes],
    ['Answer of a model', limits.comparisonLimits.tokens],
    ['Text of such an answer', limits.comparisonLimits.answer],
    ['Text of a prompt for the judge', limits.comparisonLimits.prompt],
    ['Message to the judge', limits.rowComparisonLimits.message],
    ['What a judge says of a row', limits.comparisonLimits.verdict],
    ['Rows of a dataset with stored answers', limits.comparisonRequestLimits.storedAnswers],
    ['Rows that fail one after the other', limits.comparisonRunnerLimits.failed],
    ['Time that a row waits for a worker', limits.rowComparisonLimits.patience],
    ['Comparisons at once, per api process', limits.comparisonRunnerLimits.atOnce],
    ['Rows of one at once', limits.comparisonRunnerLimits.rowsAtOnce],
    ['Unfinished comparisons of an API key', limits.comparisonStoreLimits.openOfKey],
    ['Unfinished comparisons', limits.comparisonStoreLimits.open],
    ['Stored comparisons of an API key', limits.comparisonStoreLimits.keptOfKey],
    ['Stored comparisons', limits.comparisonStoreLimits.kept],
  ],
  'Base models': [
    ['`config.json`', limits.configLimits.bytes],
    ['`tokenizer.json`', limits.tokenizerLimits.bytes],
    ['Chat template', limits.templateLimits.bytes],
    ['Weight files', limits.shardLimits.files],
    ['State of a quantized weight', limits.quantizedLimits.stateBytes],
    ['A model that is pulled from the hub', 'MODEL_PULL_MAX_BYTES', 'the pull fails: `model_not_supported`'],
    ['Disk that a pull leaves free', 'MODEL_PULL_KEEP_FREE_BYTES', 'the pull fails: `storage_full`'],
    ['One of its files other than weights', limits.smallFileLimits.bytes],
    ['An answer of the API of the hub', limits.hubAnswerLimits.bytes],
    ['Files of its repository: of a model those at the top, of a dataset all', limits.repositoryLimits.files],
    ['Files that `lora datasets pull` fetches', limits.pulledRowsLimits.bytes],
    ['Stored pulls', limits.pullLimits.pulls],
  ],
  'Imports from OpenAI': [
    ['Jobs of an import', limits.openaiImportLimits.jobs],
    ['Answers that are recorded', limits.openaiImportLimits.answers],
    ['Attempts at a call of the other service', limits.openaiWireLimits.attempts],
    ['Wait that it asks for before the next one', limits.retryDelayLimits.delay],
    ['Answer of it that is JSON', limits.openaiWireLimits.json],
  ],
});

/** Notes for the reader of a section. @type {Record<string, string>} */
const NOTES = {
  Datasets:
    'Concurrent uploads can exceed the number of datasets. Uploading a file again returns 200. The CSV rows of all uploads in progress take about 550 MiB of an api process at most ([why](decisions/dataset-tokens.md#files-of-rows)).',
  Adapters: 'Concurrent imports and jobs can exceed the number of adapters.',
};

const INTRODUCTION = `<!-- Written by \`npm run docs\` from the settings and the limits next to the constants of the code. Change those, not this page. -->

# Limits

Everything that comes from outside has a limit. A limit with a variable is a default that you can change as any other
[setting](configuration.md). You can also set the limits of one API key when you make it
(\`npm run keys -- create … --active-jobs 5\`). The other limits are constants in the code, which says why they have their values.`;

/**
 * The limits that the code exports.
 *
 * @param {(file: string) => Promise<Record<string, any>>} load imports a module of {@link LIMITS_IN}
 * @returns {Promise<Limits>}
 */
export async function loadLimits(load) {
  const entries = Object.entries(LIMITS_IN).map(async ([name, file]) => [name, (await load(file))[name]]);
  return /** @type {Limits} */ (Object.fromEntries(await Promise.all(entries)));
}

/**
 * The variables of the settings that docs/limits.md lists, with their defaults and what is answered beyond them.
 *
 * @param {Limits} limits
 * @returns {ReadonlySet<string>}
 */
export function limitVariables(limits) {
  const bounds = Object.values(sectionsOf(limits)).flatMap((rows) => rows.map(([, bound]) => bound));
  return new Set(bounds.filter((bound) => typeof bound === 'string'));
}

/**
 * The text of docs/limits.md.
 *
 * @param {Record<string, SettingTree>} services
 * @param {Pick<typeof import('../../packages/service-kit/dist/index.js'), 'settingsOf'>} serviceKit
 * @param {Limits} limits
 * @returns {string}
 * @throws {Error} for a setting that does not exist
 */
export function limitsPage(services, { settingsOf }, limits) {
  const settings = new Map(
    Object.values(services)
      .flatMap(settingsOf)
      .map((setting) => [setting.variable, setting]),
  );
  /** @param {Row} row */
  const lineOf = ([what, bound, beyond]) => {
    if (bound === undefined) throw new Error(`scripts/docs/limits-page.mjs: "${what}" has no limit`);
    if (typeof bound !== 'string') return `| ${what} | ${quantity(bound)} | ${bound.beyond} |`;
    const setting = settings.get(bound);
    if (!setting?.fallback) throw new Error(`scripts/docs/limits-page.mjs: there is no setting ${bound}`);
    const limit = quantity({ value: Number(setting.fallback), unit: setting.unit ?? '' });
    return `| ${what} | ${limit}, \`${bound}\` | ${beyond} |`;
  };
  const sections = Object.entries(sectionsOf(limits)).map(([title, rows]) => {
    const head = '| What | Limit, its variable | Beyond it |\n| --- | --- | --- |';
    const note = NOTES[title] === undefined ? '' : `\n\n${NOTES[title]}`;
    return `## ${title}\n\n${head}\n${rows.map(lineOf).join('\n')}${note}`;
  });
  return `${[INTRODUCTION, ...sections].join('\n\n')}\n`;
}

/** @param {Pick<Limit, 'value' | 'unit'>} limit */
function quantity({ value, unit }) {
  return `${value.toLocaleString('en-US')} ${unit}`.trim();
}
