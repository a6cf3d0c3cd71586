import type {
  Adapter,
  AdapterFile,
  AdapterManifest,
  AdapterQuery,
  BaseModel,
  BaseModelDetail,
  Checkpoint,
  Counted,
  Dataset,
  DatasetQuery,
  DatasetRowPage,
  DatasetRowsQuery,
  DatasetTokens,
  DetailsChange,
  GgufTensorType,
  ImportAdapterQuery,
  Job,
  JobEvent,
  JobQuery,
  JobRequest,
  KeyAnswer,
  MachineList,
  ModelPull,
  ModelPullRequest,
  Paged,
  PageQuery,
  Report,
  Sweep,
  SweepEvent,
  SweepPlan,
  SweepRequest,
  WebhookSecret,
} from '@lorasmith/contracts';
import { ENDED_PULL_STATUSES, ENDED_STATUSES, TAR_MEDIA_TYPES } from '@lorasmith/contracts';
import type { CallOptions } from './call-options.js';
import { createHttpTransport, type HttpTransport, type HttpTransportOptions } from './http-transport.js';
import { type FollowOptions, followJobEvents, followSweepEvents } from './job-events.js';
import { countedStream } from './request-stream.js';
import { type DownloadStream, streamDownload } from './resumed-download.js';
import { sleep } from './sleep.js';
import { textCalls } from './text-calls.js';

/** The text of a JSONL file, a `Blob` (such as a file chosen in a browser), or a stream of chunks. */
export type UploadSource = { text: string } | { blob: Blob } | { chunks: AsyncIterable<Uint8Array | string> };

export interface UploadOptions extends CallOptions {
  /** A name for the dataset. */
  name?: string | undefined;
  /** The columns of the file that rows have: `prompt:question,completion:answer`. */
  columns?: string | undefined;
  /** Has the rows tokenized for this base model in the background, so that a first job on it starts sooner. */
  baseModel?: string | undefined;
  /** Called with the number of bytes sent so far. Only for `chunks`: `fetch` reports no progress of other bodies. */
  onProgress?: ((sentBytes: number) => void) | undefined;
}

/** A plain tar of a PEFT folder. */
export type AdapterSource = Exclude<UploadSource, { text: string }>;

export interface ImportAdapterOptions
  extends ImportAdapterQuery,
    Omit<UploadOptions, 'name' | 'columns' | 'baseModel'> {}

export interface CreateJobOptions extends CallOptions {
  /**
   * Makes the call safe to repeat: the same key with the same request returns the same job.
   * @defaultValue a new key, which the client also uses for its own retries
   */
  idempotencyKey?: string | undefined;
}

export interface PublishCheckpointOptions extends CreateJobOptions {
  /** Name of the adapter. @defaultValue the name of the job */
  name?: string | undefined;
}

export interface ListEventsQuery {
  /** Maximum entries, up to 1,000. @defaultValue 100 */
  limit?: number | undefined;
  /** Id of an event: only later events are returned. */
  after?: string | undefined;
}

export interface WaitForJobOptions extends FollowOptions {
  onEvent?: ((event: JobEvent) => void) | undefined;
}

interface WaitOptions<Value> extends CallOptions {
  onProgress?: ((value: Value) => void) | undefined;
  /** The time between two requests. @defaultValue 1000 */
  intervalMs?: number | undefined;
}

export type WaitForPullOptions = WaitOptions<ModelPull>;
export type WaitForSweepOptions = WaitOptions<Sweep>;

/** Longer than the api takes to plan a job with the largest dataset that it accepts. */
const PLANNING_TIMEOUT_MS = 4 * 3_600_000;

export type Client = ReturnType<typeof clientOver>;

/**
 * A client of the public API, typed by its contracts. Every method throws `ApiError` for an answer with status 4xx or
 * 5xx, `ProductError` (`service_unavailable`, `timeout`) when there is no answer, and the reason of an aborted `signal`.
 * Only reads and writes with an idempotency key are retried.
 */
export function createClient(options: HttpTransportOptions): Client {
  return clientOver(createHttpTransport(options));
}

/** The methods of the client that need only HTTP. */
export function clientOver(transport: HttpTransport) {
  const get = <Answer>(path: string, { signal }: CallOptions, query: object = {}) =>
    transport.json<Answer>({ method: 'GET', path, query: { ...query }, signal });

  /** Repeating it changes nothing more. */
  const change = <Answer>(path: string, body: DetailsChange, { signal }: CallOptions) =>
    transport.json<Answer>({
      method: 'PATCH',
      path,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal,
      repeatable: true,
    });

  const remove = (path: string, { signal }: CallOptions) => transport.json<void>({ method: 'DELETE', path, signal });

  const postPlanned = <Answer>(
    path: '/jobs' | '/sweeps',
    body: JobRequest | SweepRequest,
    call: CreateJobOptions,
    query: { dry_run?: true } = {},
  ) =>
    transport.json<Answer>({
      method: 'POST',
      path,
      query,
      headers: {
        'content-type': 'application/json',
        'idempotency-key': call.idempotencyKey ?? newIdempotencyKey(),
      },
      body: JSON.stringify(body),
      signal: call.signal,
      repeatable: true,
      retryTimeoutsForMs: PLANNING_TIMEOUT_MS,
    });

  const upload = <Answer>(
    path: string,
    query: Record<string, string | undefined>,
    contentType: string,
    source: UploadSource,
    { onProgress, signal }: UploadOptions,
  ) =>
    transport.json<Answer>({
      method: 'POST',
      path,
      query,
      headers: { 'content-type': contentType },
      body: bodyOf(source, onProgress),
      signal,
      // An upload takes as long as the sender's connection needs.
      timeoutMs: null,
    });

  /** Uploads a dataset. Uploading the same bytes again returns the same dataset. */
  async function uploadDataset(source: UploadSource, call: UploadOptions = {}): Promise<Dataset> {
    const query = { name: call.name, columns: call.columns, base_model: call.baseModel };
    return await upload<Dataset>('/datasets', query, 'application/x-ndjson', source, call);
  }

  /**
   * Imports a PEFT adapter. `base_model` names its base model. Without it, the adapter's own config must name a base
   * model on the host.
   */
  async function importAdapter(source: AdapterSource, call: ImportAdapterOptions = {}): Promise<Adapter> {
    const { base_model, name, ...options } = call;
    return await upload<Adapter>('/adapters', { base_model, name }, TAR_MEDIA_TYPES[0], source, options);
  }

  /** Publishes a checkpoint of an ended job as an adapter. @returns the job that does so; its `adapter` is the result */
  async function publishCheckpoint(
    id: string,
    step: number | 'best' | 'last',
    call: PublishCheckpointOptions = {},
  ): Promise<Job> {
    const { name, idempotencyKey, signal } = call;
    return await transport.json<Job>({
      method: 'POST',
      path: `/jobs/${encodeURIComponent(id)}/checkpoints/${step}/publish`,
      headers: {
        'content-type': 'application/json',
        'idempotency-key': idempotencyKey ?? newIdempotencyKey(),
      },
      body: JSON.stringify(name === undefined ? {} : { name }),
      signal,
      repeatable: true,
    });
  }

  /** Waits until the job ends and returns it. It may have failed: check its `status`. */
  async function waitForJob(id: string, { onEvent, ...follow }: WaitForJobOptions = {}): Promise<Job> {
    let { after } = follow;
    for (;;) {
      for await (const event of followJobEvents(transport, id, { ...follow, after })) {
        after = event.id;
        onEvent?.(event);
      }
      const job = await get<Job>(`/jobs/${encodeURIComponent(id)}`, follow);
      if (ENDED_STATUSES.includes(job.status)) return job;
      // It was resumed between its last event and the answer.
    }
  }

  async function waitUntil<Value>(
    path: string,
    hasEnded: (value: Value) => boolean,
    { onProgress, intervalMs = 1_000, signal }: WaitOptions<Value>,
  ): Promise<Value> {
    for (;;) {
      const value = await get<Value>(path, { signal });
      onProgress?.(value);
      if (hasEnded(value)) return value;
      await sleep(intervalMs, signal);
    }
  }

  /** Asks again and again until the pull ends, and returns it. It may have failed: check its `status`. */
  async function waitForPull(id: string, options: WaitForPullOptions = {}): Promise<ModelPull> {
    const path = `/model-pulls/${encodeURIComponent(id)}`;
    return await waitUntil(path, ({ status }) => ENDED_PULL_STATUSES.includes(status), options);
  }

  const changeSweep = (id: string, change: 'cancel' | 'pause' | 'resume', { signal }: CallOptions) =>
    transport.json<Sweep>({ method: 'POST', path: `/sweeps/${encodeURIComponent(id)}/${change}`, signal });

  /** Asks again and again until the sweep ends, and returns it. It may have failed: check its `status`. */
  async function waitForSweep(id: string, options: WaitForSweepOptions = {}): Promise<Sweep> {
    return await waitUntil(`/sweeps/${encodeURIComponent(id)}`, ({ ended_at: ended }) => ended !== null, options);
  }

  async function adapterFiles(id: string, call: CallOptions = {}): Promise<AdapterFile[]> {
    return (await get<{ data: AdapterFile[] }>(`/adapters/${encodeURIComponent(id)}/files`, call)).data;
  }

  return {
    uploadDataset,
    listDatasets: (query: DatasetQuery = {}, call: CallOptions = {}) => get<Counted<Dataset>>('/datasets', call, query),
    getDataset: (id: string, call: CallOptions = {}) => get<Dataset>(`/datasets/${encodeURIComponent(id)}`, call),
    /** Changes name, tags or note. The rows never change. */
    changeDataset: (id: string, details: DetailsChange, call: CallOptions = {}) =>
      change<Dataset>(`/datasets/${encodeURIComponent(id)}`, details, call),
    /** Whether the rows are stored as tokens of this base model. */
    datasetTokens: (id: string, baseModel: string, call: CallOptions = {}) =>
      get<DatasetTokens>(`/datasets/${encodeURIComponent(id)}/tokens`, call, { base_model: baseModel }),
    /** Rows as they were uploaded; with `base_model`, also as tokens of that model. */
    datasetRows: (id: string, query: DatasetRowsQuery = {}, call: CallOptions = {}) =>
      get<DatasetRowPage>(`/datasets/${encodeURIComponent(id)}/rows`, call, query),
    deleteDataset: (id: string, call: CallOptions = {}) => remove(`/datasets/${encodeURIComponent(id)}`, call),

    createJob: (request: JobRequest, call: CreateJobOptions = {}) => postPlanned<Job>('/jobs', request, call),
    /** Reports what the job would do, without queuing it. */
    dryRun: (request: JobRequest, call: CallOptions = {}) =>
      postPlanned<Report>('/jobs', request, call, { dry_run: true }),
    /** Newest first, unless `sort` says otherwise; `total` counts those that match on all pages. */
    listJobs: (query: JobQuery = {}, call: CallOptions = {}) => get<Counted<Job>>('/jobs', call, query),
    getJob: (id: string, call: CallOptions = {}) => get<Job>(`/jobs/${encodeURIComponent(id)}`, call),
    /** Changes name, tags or note, whatever the state of the job. */
    changeJob: (id: string, details: DetailsChange, call: CallOptions = {}) =>
      change<Job>(`/jobs/${encodeURIComponent(id)}`, details, call),
    /** Returns the job: a queued one is `cancelled` at once, a running one when its worker has stopped it. */
    cancelJob: (id: string, { signal }: CallOptions = {}) =>
      transport.json<Job>({ method: 'POST', path: `/jobs/${encodeURIComponent(id)}/cancel`, signal }),
    /** Returns the job: a queued one is `paused` at once, a running one after a step. It keeps its checkpoint and its place. */
    pauseJob: (id: string, { signal }: CallOptions = {}) =>
      transport.json<Job>({ method: 'POST', path: `/jobs/${encodeURIComponent(id)}/pause`, signal }),
    /** Queues a failed, cancelled or paused job again. It continues from its last checkpoint. */
    resumeJob: (id: string, { signal }: CallOptions = {}) =>
      transport.json<Job>({ method: 'POST', path: `/jobs/${encodeURIComponent(id)}/resume`, signal }),
    /** Newest first. */
    checkpoints: async (id: string, call: CallOptions = {}) =>
      (await get<{ data: Checkpoint[] }>(`/jobs/${encodeURIComponent(id)}/checkpoints`, call)).data,
    publishCheckpoint,
    deleteJob: (id: string, call: CallOptions = {}) => remove(`/jobs/${encodeURIComponent(id)}`, call),
    /** Past and future events up to the job's last one. Reconnects when a connection is lost. */
    events: (id: string, follow: FollowOptions = {}) => followJobEvents(transport, id, follow),
    /** A page of the events so far, oldest first. `next` is the `after` of the next page, also of later events. */
    listEvents: (id: string, query: ListEventsQuery = {}, call: CallOptions = {}) =>
      get<Paged<JobEvent>>(`/jobs/${encodeURIComponent(id)}/events`, call, query),
    waitForJob,

    /** Queues a job for each variant. */
    createSweep: (request: SweepRequest, call: CreateJobOptions = {}) => postPlanned<Sweep>('/sweeps', request, call),
    /** Plans every variant, without queuing any. */
    dryRunSweep: (request: SweepRequest, call: CallOptions = {}) =>
      postPlanned<SweepPlan>('/sweeps', request, call, { dry_run: true }),
    listSweeps: (query: PageQuery = {}, call: CallOptions = {}) => get<Paged<Sweep>>('/sweeps', call, query),
    getSweep: (id: string, call: CallOptions = {}) => get<Sweep>(`/sweeps/${encodeURIComponent(id)}`, call),
    /** Cancels, pauses or resumes all jobs of a sweep, as one job is. */
    cancelSweep: (id: string, call: CallOptions = {}) => changeSweep(id, 'cancel', call),
    pauseSweep: (id: string, call: CallOptions = {}) => changeSweep(id, 'pause', call),
    resumeSweep: (id: string, call: CallOptions = {}) => changeSweep(id, 'resume', call),
    /** Deletes the record of a sweep that has ended; its jobs and adapters stay. */
    deleteSweep: (id: string, call: CallOptions = {}) => remove(`/sweeps/${encodeURIComponent(id)}`, call),
    /** Past and future events up to the sweep's last one. Reconnects when a connection is lost. */
    sweepEvents: (id: string, follow: FollowOptions = {}) => followSweepEvents(transport, id, follow),
    /** A page of the events so far, oldest first. `next` is the `after` of the next page, also of later events. */
    listSweepEvents: (id: string, query: ListEventsQuery = {}, call: CallOptions = {}) =>
      get<Paged<SweepEvent>>(`/sweeps/${encodeURIComponent(id)}/events`, call, query),
    waitForSweep,

    listAdapters: (query: AdapterQuery = {}, call: CallOptions = {}) => get<Counted<Adapter>>('/adapters', call, query),
    /** The adapter as the list has it, with its present name; the manifest has the one with which it was published. */
    getAdapter: (id: string, call: CallOptions = {}) =>
      get<Adapter>(`/adapters/${encodeURIComponent(id)}/record`, call),
    /** Changes name, tags or note. The files never change. */
    changeAdapter: (id: string, details: DetailsChange, call: CallOptions = {}) =>
      change<Adapter>(`/adapters/${encodeURIComponent(id)}`, details, call),
    manifest: (id: string, call: CallOptions = {}) =>
      get<AdapterManifest>(`/adapters/${encodeURIComponent(id)}/manifest`, call),
    adapterFiles,
    importAdapter,
    /**
     * Begins to download an adapter, or the model merged with it, without a file system.
     * @param query - as of `GET /adapters/:id`
     */
    streamAdapter: (
      id: string,
      query: {
        weights?: 'adapter' | 'merged';
        layout?: 'peft' | 'per-expert';
        format?: 'tar' | 'safetensors' | 'gguf';
        type?: GgufTensorType;
      } = {},
      { signal }: CallOptions = {},
    ): Promise<DownloadStream> =>
      streamDownload(transport, { path: `/adapters/${encodeURIComponent(id)}`, query: { ...query } }, signal),
    deleteAdapter: (id: string, call: CallOptions = {}) => remove(`/adapters/${encodeURIComponent(id)}`, call),

    models: async (call: CallOptions = {}) => (await get<{ data: BaseModel[] }>('/models', call)).data,
    /** The machines that the workers train on. */
    machines: async (call: CallOptions = {}) => (await get<MachineList>('/machines', call)).data,
    model: (name: string, call: CallOptions = {}) => get<BaseModelDetail>(`/models/${encodeURIComponent(name)}`, call),

    /** Has a base model fetched from the hub. Repeating it returns the same pull, or resumes a failed one. */
    pullModel: (request: ModelPullRequest, { signal }: CallOptions = {}) =>
      transport.json<ModelPull>({
        method: 'POST',
        path: '/model-pulls',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(request),
        signal,
        repeatable: true,
      }),
    /** Newest first. */
    modelPulls: async (call: CallOptions = {}) => (await get<{ data: ModelPull[] }>('/model-pulls', call)).data,
    modelPull: (id: string, call: CallOptions = {}) => get<ModelPull>(`/model-pulls/${encodeURIComponent(id)}`, call),
    /** Returns the pull: it has ended, or ends once its puller has stopped. */
    cancelModelPull: (id: string, { signal }: CallOptions = {}) =>
      transport.json<ModelPull>({ method: 'POST', path: `/model-pulls/${encodeURIComponent(id)}/cancel`, signal }),
    waitForPull,
    /** The secret with which the webhooks of this key's jobs are signed. */
    /** The API key of this client, and its role. */
    key: (call: CallOptions = {}) => get<KeyAnswer>('/key', call),
    webhookSecret: async (call: CallOptions = {}) => (await get<WebhookSecret>('/webhook-secret', call)).secret,

    ...textCalls(transport),
  };
}

function bodyOf(source: UploadSource, onProgress: UploadOptions['onProgress']) {
  if ('text' in source) return source.text;
  return 'blob' in source ? source.blob : countedStream(source.chunks, onProgress);
}

/** A random UUID. Browsers offer `crypto.randomUUID` only in secure contexts. */
function newIdempotencyKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
