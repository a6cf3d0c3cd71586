import {
  type Adapter,
  type AdapterFile,
  type AdapterManifest,
  type AdapterQuery,
  type Alias,
  type AliasQuery,
  type AliasSummary,
  type BaseModel,
  type BaseModelDetail,
  type Checkpoint,
  type Comparison,
  type ComparisonRequest,
  type ComparisonRowPage,
  type ComparisonRowsQuery,
  type Counted,
  type Dataset,
  type DatasetQuery,
  type DatasetRowPage,
  type DatasetRowsQuery,
  type DatasetTokens,
  type Delivery,
  type DeliveryTarget,
  type DetailsChange,
  ENDED_PULL_STATUSES,
  ENDED_STATUSES,
  ERRORS,
  type ErrorCode,
  type GgufTensorType,
  type HubToken,
  type ImportAdapterQuery,
  type Job,
  type JobEvent,
  type JobQuery,
  type JobRequest,
  type KeyAnswer,
  type MachineList,
  type ModelPull,
  type ModelPullRequest,
  type MoveAliasRequest,
  type OpenaiImportEvent,
  type OpenaiImportRequest,
  type OutsideTarget,
  type Paged,
  type PageQuery,
  ProductError,
  type Report,
  type RollBackAliasRequest,
  type Sweep,
  type SweepEvent,
  type SweepPlan,
  type SweepRequest,
  TAR_MEDIA_TYPES,
  type WebhookSecret,
} from '@lorasmith/contracts';
import { ApiError } from './api-error.js';
import {
  Calls,
  type CreateJobOptions,
  newIdempotencyKey,
  type UploadOptions,
  type UploadSource,
  type WaitOptions,
} from './calls.js';
import { parseEventStream } from './event-stream-parser.js';
import {
  bodyChunks,
  type CallOptions,
  createHttpTransport,
  type HttpTransport,
  type HttpTransportOptions,
} from './http-transport.js';
import {
  type FollowOptions,
  followComparisonEvents,
  followDeliveryEvents,
  followJobEvents,
  followSweepEvents,
} from './job-events.js';
import { type DownloadStream, streamDownload } from './resumed-download.js';
import { textCalls } from './text-calls.js';

/** A plain tar of a PEFT folder. */
export type AdapterSource = Exclude<UploadSource, { text: string }>;

export interface ImportAdapterOptions
  extends ImportAdapterQuery,
    Omit<UploadOptions, 'name' | 'columns' | 'baseModel'> {}

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

/** `owner`: the names of another key, for a key that sees everything. */
export interface AliasOptions extends CallOptions, AliasQuery {}

export type WaitForPullOptions = WaitOptions<ModelPull>;
export type WaitForSweepOptions = WaitOptions<Sweep>;
export type WaitForDeliveryOptions = WaitOptions<Delivery>;
export type WaitForComparisonOptions = WaitOptions<Comparison>;

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
  const calls = new Calls(transport);
  return {
    ...datasetCalls(calls),
    ...jobCalls(calls),
    ...sweepCalls(calls),
    ...adapterCalls(calls),
    ...comparisonCalls(calls),
    ...aliasCalls(calls),
    ...modelCalls(calls),
    ...importCalls(calls),
    ...keyCalls(calls),
    ...textCalls(transport),
  };
}

/** Datasets and their rows. */
function datasetCalls(calls: Calls) {
  return {
    /** Uploads a dataset. Uploading the same bytes again returns the same dataset. */
    async uploadDataset(source: UploadSource, call: UploadOptions = {}): Promise<Dataset> {
      const query = { name: call.name, columns: call.columns, base_model: call.baseModel };
      return await calls.upload<Dataset>('/datasets', query, 'application/x-ndjson', source, call);
    },
    listDatasets: (query: DatasetQuery = {}, call: CallOptions = {}) =>
      calls.get<Counted<Dataset>>('/datasets', call, query),
    getDataset: (id: string, call: CallOptions = {}) => calls.get<Dataset>(`/datasets/${encodeURIComponent(id)}`, call),
    /** Changes name, tags or note. The rows never change. */
    changeDataset: (id: string, details: DetailsChange, call: CallOptions = {}) =>
      calls.change<Dataset>(`/datasets/${encodeURIComponent(id)}`, details, call),
    /** The state of the rows as stored tokens of this base model. */
    datasetTokens: (id: string, baseModel: string, call: CallOptions = {}) =>
      calls.get<DatasetTokens>(`/datasets/${encodeURIComponent(id)}/tokens`, call, { base_model: baseModel }),
    /** Rows as they were uploaded; with `base_model`, also as tokens of that model. */
    datasetRows: (id: string, query: DatasetRowsQuery = {}, call: CallOptions = {}) =>
      calls.get<DatasetRowPage>(`/datasets/${encodeURIComponent(id)}/rows`, call, query),
    /** The stored rows, as JSONL, in chunks as they come. */
    async *fileContent(id: string, { signal }: CallOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
      const path = `/v1/files/${encodeURIComponent(id)}/content`;
      yield* bodyChunks(await calls.transport.request({ method: 'GET', path, signal }), signal);
    },
    deleteDataset: (id: string, call: CallOptions = {}) => calls.remove(`/datasets/${encodeURIComponent(id)}`, call),
  };
}

/** Jobs, their events and checkpoints. */
function jobCalls(calls: Calls) {
  return {
    createJob: (request: JobRequest, call: CreateJobOptions = {}) => calls.postPlanned<Job>('/jobs', request, call),
    /** Reports what the job would do, without queuing it. */
    dryRun: (request: JobRequest, call: CallOptions = {}) =>
      calls.postPlanned<Report>('/jobs', request, call, { dry_run: true }),
    /** Newest first, unless `sort` says otherwise; `total` counts those that match on all pages. */
    listJobs: (query: JobQuery = {}, call: CallOptions = {}) => calls.get<Counted<Job>>('/jobs', call, query),
    getJob: (id: string, call: CallOptions = {}) => calls.get<Job>(`/jobs/${encodeURIComponent(id)}`, call),
    /** Changes name, tags or note, whatever the state of the job. */
    changeJob: (id: string, details: DetailsChange, call: CallOptions = {}) =>
      calls.change<Job>(`/jobs/${encodeURIComponent(id)}`, details, call),
    /** Returns the job: a queued one is `cancelled` at once, a running one when its worker has stopped it. */
    cancelJob: (id: string, { signal }: CallOptions = {}) =>
      calls.json<Job>({ method: 'POST', path: `/jobs/${encodeURIComponent(id)}/cancel`, signal }),
    /** Returns the job: a queued one is `paused` at once, a running one after a step. It keeps its checkpoint and its place. */
    pauseJob: (id: string, { signal }: CallOptions = {}) =>
      calls.json<Job>({ method: 'POST', path: `/jobs/${encodeURIComponent(id)}/pause`, signal }),
    /** Queues a failed, cancelled or paused job again. It continues from its last checkpoint. */
    resumeJob: (id: string, { signal }: CallOptions = {}) =>
      calls.json<Job>({ method: 'POST', path: `/jobs/${encodeURIComponent(id)}/resume`, signal }),
    /** Newest first. */
    checkpoints: async (id: string, call: CallOptions = {}) =>
      (await calls.get<{ data: Checkpoint[] }>(`/jobs/${encodeURIComponent(id)}/checkpoints`, call)).data,
    /** Publishes a checkpoint of an ended job as an adapter. @returns the job that does so; its `adapter` is the result */
    async publishCheckpoint(
      id: string,
      step: number | 'best' | 'last',
      call: PublishCheckpointOptions = {},
    ): Promise<Job> {
      const { name, idempotencyKey, signal } = call;
      return await calls.json<Job>({
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
    },
    deleteJob: (id: string, call: CallOptions = {}) => calls.remove(`/jobs/${encodeURIComponent(id)}`, call),
    /** Past and future events up to the job's last one. Reconnects when a connection is lost. */
    events: (id: string, follow: FollowOptions = {}) => followJobEvents(calls.transport, id, follow),
    /** A page of the events so far, oldest first. `next` is the `after` of the next page, also of later events. */
    listEvents: (id: string, query: ListEventsQuery = {}, call: CallOptions = {}) =>
      calls.get<Paged<JobEvent>>(`/jobs/${encodeURIComponent(id)}/events`, call, query),
    /** Waits until the job ends and returns it. It may have failed: check its `status`. */
    async waitForJob(id: string, { onEvent, ...follow }: WaitForJobOptions = {}): Promise<Job> {
      let { after } = follow;
      for (;;) {
        for await (const event of followJobEvents(calls.transport, id, { ...follow, after })) {
          after = event.id;
          onEvent?.(event);
        }
        const job = await calls.get<Job>(`/jobs/${encodeURIComponent(id)}`, follow);
        if (ENDED_STATUSES.includes(job.status)) return job;
        // It was resumed between its last event and the answer.
      }
    },
  };
}

/** Sweeps and their events. */
function sweepCalls(calls: Calls) {
  const changeSweep = (id: string, change: 'cancel' | 'pause' | 'resume', { signal }: CallOptions) =>
    calls.json<Sweep>({ method: 'POST', path: `/sweeps/${encodeURIComponent(id)}/${change}`, signal });

  return {
    /** Queues a job for each variant. */
    createSweep: (request: SweepRequest, call: CreateJobOptions = {}) =>
      calls.postPlanned<Sweep>('/sweeps', request, call),
    /** Plans every variant, without queuing any. */
    dryRunSweep: (request: SweepRequest, call: CallOptions = {}) =>
      calls.postPlanned<SweepPlan>('/sweeps', request, call, { dry_run: true }),
    listSweeps: (query: PageQuery = {}, call: CallOptions = {}) => calls.get<Paged<Sweep>>('/sweeps', call, query),
    getSweep: (id: string, call: CallOptions = {}) => calls.get<Sweep>(`/sweeps/${encodeURIComponent(id)}`, call),
    /** Cancels, pauses or resumes all jobs of a sweep, as one job is. */
    cancelSweep: (id: string, call: CallOptions = {}) => changeSweep(id, 'cancel', call),
    pauseSweep: (id: string, call: CallOptions = {}) => changeSweep(id, 'pause', call),
    resumeSweep: (id: string, call: CallOptions = {}) => changeSweep(id, 'resume', call),
    /** Deletes the record of a sweep that has ended; its jobs and adapters stay. */
    deleteSweep: (id: string, call: CallOptions = {}) => calls.remove(`/sweeps/${encodeURIComponent(id)}`, call),
    /** Past and future events up to the sweep's last one. Reconnects when a connection is lost. */
    sweepEvents: (id: string, follow: FollowOptions = {}) => followSweepEvents(calls.transport, id, follow),
    /** A page of the events so far, oldest first. `next` is the `after` of the next page, also of later events. */
    listSweepEvents: (id: string, query: ListEventsQuery = {}, call: CallOptions = {}) =>
      calls.get<Paged<SweepEvent>>(`/sweeps/${encodeURIComponent(id)}/events`, call, query),
    /** Asks again and again until the sweep ends, and returns it. It may have failed: check its `status`. */
    async waitForSweep(id: string, options: WaitForSweepOptions = {}): Promise<Sweep> {
      return await calls.waitUntil(
        `/sweeps/${encodeURIComponent(id)}`,
        ({ ended_at: ended }) => ended !== null,
        options,
      );
    },
  };
}

/** Adapters and their files. */
function adapterCalls(calls: Calls) {
  return {
    listAdapters: (query: AdapterQuery = {}, call: CallOptions = {}) =>
      calls.get<Counted<Adapter>>('/adapters', call, query),
    /** The adapter as the list has it, with its present name; the manifest has the one with which it was published. */
    getAdapter: (id: string, call: CallOptions = {}) =>
      calls.get<Adapter>(`/adapters/${encodeURIComponent(id)}/record`, call),
    /** Changes name, tags or note. The files never change. */
    changeAdapter: (id: string, details: DetailsChange, call: CallOptions = {}) =>
      calls.change<Adapter>(`/adapters/${encodeURIComponent(id)}`, details, call),
    manifest: (id: string, call: CallOptions = {}) =>
      calls.get<AdapterManifest>(`/adapters/${encodeURIComponent(id)}/manifest`, call),
    async adapterFiles(id: string, call: CallOptions = {}): Promise<AdapterFile[]> {
      return (await calls.get<{ data: AdapterFile[] }>(`/adapters/${encodeURIComponent(id)}/files`, call)).data;
    },
    /**
     * Imports a PEFT adapter. `base_model` names its base model. Without it, the adapter's own config must name a base
     * model on the host.
     */
    async importAdapter(source: AdapterSource, call: ImportAdapterOptions = {}): Promise<Adapter> {
      const { base_model, name, ...options } = call;
      return await calls.upload<Adapter>('/adapters', { base_model, name }, TAR_MEDIA_TYPES[0], source, options);
    },
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
        base_model?: string;
      } = {},
      { signal }: CallOptions = {},
    ): Promise<DownloadStream> =>
      streamDownload(calls.transport, { path: `/adapters/${encodeURIComponent(id)}`, query: { ...query } }, signal),
    deleteAdapter: (id: string, call: CallOptions = {}) => calls.remove(`/adapters/${encodeURIComponent(id)}`, call),

    /** Has an adapter delivered: to a server that runs, a folder, the Hugging Face hub or a bucket. */
    deliver: (id: string, to: DeliveryTarget, { signal }: CallOptions = {}) =>
      calls.json<Delivery>({
        method: 'POST',
        path: `/adapters/${encodeURIComponent(id)}/deliveries`,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(to),
        signal,
      }),
    /** The deliveries of an adapter, newest first. */
    deliveries: async (id: string, call: CallOptions = {}) =>
      (await calls.get<{ data: Delivery[] }>(`/adapters/${encodeURIComponent(id)}/deliveries`, call)).data,
    getDelivery: (id: string, call: CallOptions = {}) =>
      calls.get<Delivery>(`/deliveries/${encodeURIComponent(id)}`, call),
    /** Returns the delivery: it has ended, or ends once its process has restored what was there before. */
    cancelDelivery: (id: string, { signal }: CallOptions = {}) =>
      calls.json<Delivery>({ method: 'POST', path: `/deliveries/${encodeURIComponent(id)}/cancel`, signal }),
    /** Stores the token with which adapters of this key are delivered to the Hugging Face hub. */
    setHubToken: (token: string, { signal }: CallOptions = {}) =>
      calls.json<HubToken>({ method: 'PUT', path: '/hub-token', ...jsonBody({ token }), signal }),
    /** When the token of the hub was stored; null without one. The token itself is returned to nobody. */
    hubToken: (call: CallOptions = {}) => calls.get<HubToken>('/hub-token', call),
    deleteHubToken: (call: CallOptions = {}) => calls.remove('/hub-token', call),
    /** Events of a delivery, past and future, up to its last one. */
    deliveryEvents: (id: string, follow: FollowOptions = {}) => followDeliveryEvents(calls.transport, id, follow),
    /** Asks again and again until the delivery ends, and returns it. It may have failed: check its `status`. */
    async waitForDelivery(id: string, options: WaitForDeliveryOptions = {}): Promise<Delivery> {
      const path = `/deliveries/${encodeURIComponent(id)}`;
      return await calls.waitUntil(path, ({ ended_at: ended }) => ended !== null, options);
    },
  };
}

/** Comparisons of two models, and their rows. */
function comparisonCalls(calls: Calls) {
  const pathOf = (id: string, below = '') => `/comparisons/${encodeURIComponent(id)}${below}`;
  return {
    /** Has two models answer the prompts of a dataset, and a third judge their answers. */
    createComparison: (request: ComparisonRequest, { signal }: CallOptions = {}) =>
      calls.json<Comparison>({ method: 'POST', path: '/comparisons', ...jsonBody(request), signal }),
    /** Newest first. */
    listComparisons: (query: PageQuery = {}, call: CallOptions = {}) =>
      calls.get<Paged<Comparison>>('/comparisons', call, query),
    getComparison: (id: string, call: CallOptions = {}) => calls.get<Comparison>(pathOf(id), call),
    /** The rows that have been begun, side by side. `next` is the `after` of the next page. */
    comparisonRows: (id: string, query: ComparisonRowsQuery = {}, call: CallOptions = {}) =>
      calls.get<ComparisonRowPage>(pathOf(id, '/rows'), call, query),
    /** Returns the comparison: it has ended, or ends once its process has stopped. */
    cancelComparison: (id: string, { signal }: CallOptions = {}) =>
      calls.json<Comparison>({ method: 'POST', path: pathOf(id, '/cancel'), signal }),
    /** Deletes a comparison that has ended, with its rows. */
    deleteComparison: (id: string, call: CallOptions = {}) => calls.remove(pathOf(id), call),
    /** Past and future events up to the comparison's last one. Reconnects when a connection is lost. */
    comparisonEvents: (id: string, follow: FollowOptions = {}) => followComparisonEvents(calls.transport, id, follow),
    /** Asks again and again until the comparison ends, and returns it. It may have failed: check its `status`. */
    async waitForComparison(id: string, options: WaitForComparisonOptions = {}): Promise<Comparison> {
      return await calls.waitUntil(pathOf(id), ({ ended_at: ended }) => ended !== null, options);
    },
  };
}

/** Names that point to adapters. Where a call takes the id of an adapter, it takes a name, too. */
function aliasCalls(calls: Calls) {
  const pathOf = (name: string) => `/aliases/${encodeURIComponent(name)}`;
  return {
    /** Sorted by name, without their histories. */
    aliases: async ({ owner, ...call }: AliasOptions = {}) =>
      (await calls.get<{ data: AliasSummary[] }>('/aliases', call, { owner })).data,
    /** A name with its history. */
    alias: (name: string, { owner, ...call }: AliasOptions = {}) => calls.get<Alias>(pathOf(name), call, { owner }),
    /** Points a name at an adapter. It is made if there is none. */
    moveAlias: (name: string, request: MoveAliasRequest, { owner, signal }: AliasOptions = {}) =>
      calls.json<Alias>({
        method: 'PUT',
        path: pathOf(name),
        query: { owner },
        ...jsonBody(request),
        signal,
        // A guard takes as long as its rows.
        ...(request.guard == null ? {} : { timeoutMs: null }),
        // With a version, an answer that was lost would make the repeated call a conflict.
        repeatable: request.if_version === undefined,
      }),
    /** Points a name at the adapter that it had before, or in `version`. */
    rollBackAlias: (name: string, request: RollBackAliasRequest = {}, { owner, signal }: AliasOptions = {}) =>
      calls.json<Alias>({
        method: 'POST',
        path: `${pathOf(name)}/rollback`,
        query: { owner },
        ...jsonBody(request),
        signal,
      }),
    /** Sets the places to which the adapter of a name is delivered, now and whenever the name moves. */
    setAliasDeliveries: (name: string, deliver: readonly OutsideTarget[], { owner, signal }: AliasOptions = {}) =>
      calls.json<Alias>({
        method: 'PUT',
        path: `${pathOf(name)}/deliveries`,
        query: { owner },
        ...jsonBody({ deliver }),
        signal,
        repeatable: true,
      }),
    /** Deliveries of the present move of a name, one for each place that follows it. */
    aliasDeliveries: async (name: string, { owner, ...call }: AliasOptions = {}) =>
      (await calls.get<{ data: Delivery[] }>(`${pathOf(name)}/deliveries`, call, { owner })).data,
    /** Deletes a name and its history; its adapter stays. */
    deleteAlias: (name: string, { owner, signal }: AliasOptions = {}) =>
      calls.json<void>({ method: 'DELETE', path: pathOf(name), query: { owner }, signal }),
  };
}

function jsonBody(body: object) {
  return { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
}

/** The import of jobs from OpenAI. */
function importCalls({ transport }: Calls) {
  return {
    /**
     * Has the service import fine-tuning jobs from OpenAI, with the key of the request. Leaving the loop ends the import, which another call
     * continues. The last event is `import-ended`.
     */
    async *importFromOpenai(
      request: OpenaiImportRequest,
      { signal }: CallOptions = {},
    ): AsyncGenerator<OpenaiImportEvent, void, undefined> {
      const response = await transport.request({
        method: 'POST',
        path: '/imports/openai',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(request),
        signal,
        // The plan comes first, once all jobs are listed.
        timeoutMs: null,
      });
      for await (const { data } of parseEventStream(bodyChunks(response, signal))) {
        const event = JSON.parse(data) as OpenaiImportEvent;
        if (event.type === 'import-failed') throw failedImport(event);
        yield event;
        if (event.type === 'import-ended') return;
      }
      signal?.throwIfAborted();
      throw new ProductError(
        'service_unavailable',
        'The import ended before it was complete. Import again: it continues.',
      );
    },
  };
}

/** The error of an import that had begun, as a call that had not would have answered it. */
function failedImport({ error }: Extract<OpenaiImportEvent, { type: 'import-failed' }>): ApiError {
  const status = ERRORS[error.code as ErrorCode]?.status ?? ERRORS.internal_error.status;
  return new ApiError(status, { ...error, param: null, request_id: null });
}

/** Base models, their pulls from the hub, and machines. */
function modelCalls(calls: Calls) {
  return {
    models: async (call: CallOptions = {}) => (await calls.get<{ data: BaseModel[] }>('/models', call)).data,
    /** The machines that the workers train on. */
    machines: async (call: CallOptions = {}) => (await calls.get<MachineList>('/machines', call)).data,
    model: (name: string, call: CallOptions = {}) =>
      calls.get<BaseModelDetail>(`/models/${encodeURIComponent(name)}`, call),

    /** Has a base model fetched from the hub. Repeating it returns the same pull, or resumes a failed one. */
    pullModel: (request: ModelPullRequest, { signal }: CallOptions = {}) =>
      calls.json<ModelPull>({
        method: 'POST',
        path: '/model-pulls',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(request),
        signal,
        repeatable: true,
      }),
    /** Newest first. */
    modelPulls: async (call: CallOptions = {}) => (await calls.get<{ data: ModelPull[] }>('/model-pulls', call)).data,
    modelPull: (id: string, call: CallOptions = {}) =>
      calls.get<ModelPull>(`/model-pulls/${encodeURIComponent(id)}`, call),
    /** Returns the pull: it has ended, or ends once its puller has stopped. */
    cancelModelPull: (id: string, { signal }: CallOptions = {}) =>
      calls.json<ModelPull>({ method: 'POST', path: `/model-pulls/${encodeURIComponent(id)}/cancel`, signal }),
    /** Asks again and again until the pull ends, and returns it. It may have failed: check its `status`. */
    async waitForPull(id: string, options: WaitForPullOptions = {}): Promise<ModelPull> {
      const path = `/model-pulls/${encodeURIComponent(id)}`;
      return await calls.waitUntil(path, ({ status }) => ENDED_PULL_STATUSES.includes(status), options);
    },
  };
}

/** The key of this client. */
function keyCalls(calls: Calls) {
  return {
    /** The API key of this client, and its role. */
    key: (call: CallOptions = {}) => calls.get<KeyAnswer>('/key', call),
    /** The secret with which the webhooks of this key's jobs are signed. */
    webhookSecret: async (call: CallOptions = {}) => (await calls.get<WebhookSecret>('/webhook-secret', call)).secret,
  };
}
