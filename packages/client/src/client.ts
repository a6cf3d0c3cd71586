import { randomUUID } from 'node:crypto';
import { mkdir, open, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import type {
  Adapter,
  AdapterFile,
  AdapterManifest,
  BaseModel,
  BaseModelDetail,
  Checkpoint,
  Dataset,
  ImportAdapterQuery,
  Job,
  JobEvent,
  JobRequest,
  JobStatus,
  Paged,
  PageQuery,
  Report,
} from '@lorasmith/contracts';
import { ENDED_STATUSES, ProductError } from '@lorasmith/contracts';
import { tarOfAdapter } from './adapter-tar.js';
import { checkDownloadedFiles } from './downloaded-files.js';
import { createHttpTransport, type HttpTransportOptions } from './http-transport.js';
import { type FollowOptions, followJobEvents } from './job-events.js';
import { type DownloadOptions, downloadToFile } from './resumable-download.js';
import { refuseExisting, unpackFolder } from './unpack-folder.js';

export interface CallOptions {
  signal?: AbortSignal | undefined;
}

/** A JSONL file on this disk, its text, or its bytes as they come. */
export type UploadSource = { file: string } | { text: string } | { chunks: AsyncIterable<Uint8Array | string> };

export interface UploadOptions extends CallOptions {
  /** A name to know the dataset by. @defaultValue the file's name */
  name?: string | undefined;
  onProgress?: ((sentBytes: number) => void) | undefined;
}

/** A plain tar of a PEFT folder, or the folder. */
export type AdapterSource = { file: string } | { folder: string };

export interface ImportAdapterOptions extends CallOptions, ImportAdapterQuery {
  onProgress?: ((sentBytes: number) => void) | undefined;
}

export interface CreateJobOptions extends CallOptions {
  /**
   * Makes the call safe to repeat: the same key with the same request answers with the same job.
   * @defaultValue a new one, with which the client itself repeats what was not answered
   */
  idempotencyKey?: string | undefined;
}

export interface PublishCheckpointOptions extends CreateJobOptions {
  /** Of the adapter. @defaultValue the job's */
  name?: string | undefined;
}

export interface ListJobsQuery extends PageQuery {
  status?: JobStatus;
}

export interface WaitForJobOptions extends FollowOptions {
  onEvent?: ((event: JobEvent) => void) | undefined;
}

/** A tar as it comes, or the folder that is in it. */
export type DownloadDestination = { file: string } | { folder: string };

export interface DownloadAdapterOptions extends DownloadOptions {
  /** `adapter`: the PEFT folder. `merged`: the whole model with the adapter in it. @defaultValue 'adapter' */
  weights?: 'adapter' | 'merged' | undefined;
  /** Replace what is at the destination; otherwise that is refused. @defaultValue false */
  overwrite?: boolean | undefined;
}

/** Longer than the api plans for a dataset of the largest size that it takes. */
const PLANNING_PATIENCE_MS = 4 * 3_600_000;

export type Client = ReturnType<typeof createClient>;

/**
 * A client of the public API, typed by its contracts. Every method throws `ApiError` for an answer with status 4xx or
 * 5xx, `ProductError` (`service_unavailable`, `timeout`) when there was none, and the reason of an aborted `signal`.
 * Only reads, and writes that have an idempotency key, are repeated.
 */
export function createClient(options: HttpTransportOptions) {
  const transport = createHttpTransport(options);

  const get = <Answer>(path: string, { signal }: CallOptions, query: object = {}) =>
    transport.json<Answer>({ method: 'GET', path, query: { ...query }, signal });

  const remove = (path: string, { signal }: CallOptions) => transport.json<void>({ method: 'DELETE', path, signal });

  const postJob = <Answer>(body: JobRequest, call: CreateJobOptions, query: { dry_run?: true } = {}) =>
    transport.json<Answer>({
      method: 'POST',
      path: '/jobs',
      query,
      headers: {
        'content-type': 'application/json',
        'idempotency-key': call.idempotencyKey ?? randomUUID(),
      },
      body: JSON.stringify(body),
      signal: call.signal,
      repeatable: true,
      patienceMs: PLANNING_PATIENCE_MS,
    });

  /** Streams a dataset up; the same bytes again answer with the same dataset. */
  async function uploadDataset(source: UploadSource, call: UploadOptions = {}): Promise<Dataset> {
    const name = call.name ?? ('file' in source ? basename(source.file) : undefined);
    const chunks = countedChunks(await openSource(source), call.onProgress);
    const body = Readable.toWeb(Readable.from(chunks, { objectMode: false }));
    return await transport.json<Dataset>({
      method: 'POST',
      path: '/datasets',
      query: { name },
      headers: { 'content-type': 'application/x-ndjson' },
      body: body as ReadableStream<Uint8Array>,
      signal: call.signal,
      // As long as the connection of the sender takes.
      timeoutMs: null,
    });
  }

  /**
   * Brings in an adapter of PEFT. `base_model` names the model it is for; without it, the adapter's own config must name
   * one that is there.
   */
  async function importAdapter(source: AdapterSource, call: ImportAdapterOptions = {}): Promise<Adapter> {
    const { base_model, name, onProgress, signal } = call;
    const tar = 'file' in source ? await openSource(source) : await tarOfAdapter(source.folder);
    const body = Readable.toWeb(Readable.from(countedChunks(tar, onProgress), { objectMode: false }));
    return await transport.json<Adapter>({
      method: 'POST',
      path: '/adapters',
      query: { base_model, name },
      headers: { 'content-type': 'application/x-tar' },
      body: body as ReadableStream<Uint8Array>,
      signal,
      // As long as the connection of the sender takes.
      timeoutMs: null,
    });
  }

  /** Makes an adapter of a checkpoint of an ended job. @returns the job that does so; its `adapter` is the result */
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
        'idempotency-key': idempotencyKey ?? randomUUID(),
      },
      body: JSON.stringify(name === undefined ? {} : { name }),
      signal,
      repeatable: true,
    });
  }

  /** The job at its end, however it ended: look at `status`. */
  async function waitForJob(id: string, { onEvent, ...follow }: WaitForJobOptions = {}): Promise<Job> {
    for await (const event of followJobEvents(transport, id, follow)) onEvent?.(event);
    const job = await get<Job>(`/jobs/${encodeURIComponent(id)}`, follow);
    return ENDED_STATUSES.includes(job.status) ? job : await waitForJob(id, follow);
  }

  /**
   * Downloads an adapter, or the model merged with it, as a tar file or unpacked. Goes on where an earlier call was cut
   * off; the destination appears whole or not at all.
   *
   * @throws ProductError `conflict` when the destination exists; `invalid_adapter` when what came is damaged
   */
  async function downloadAdapter(
    id: string,
    destination: DownloadDestination,
    call: DownloadAdapterOptions = {},
  ): Promise<void> {
    const { weights = 'adapter', overwrite = false } = call;
    const target = 'file' in destination ? destination.file : destination.folder;
    await refuseExisting(target, overwrite);
    await mkdir(dirname(target), { recursive: true });
    const path = `/adapters/${encodeURIComponent(id)}`;
    const query: Record<string, string> = weights === 'merged' ? { weights } : {};
    if ('file' in destination) return await downloadToFile(transport, { path, query }, target, call);

    const tarFile = join(dirname(target), `.${basename(target)}.${id}.tar`);
    await downloadToFile(transport, { path, query }, tarFile, call);
    try {
      const check = weights === 'adapter' ? await adapterFiles(id, call) : [];
      await unpackFolder(tarFile, target, { overwrite, check: (folder) => checkDownloadedFiles(folder, check) });
    } finally {
      await rm(tarFile, { force: true });
    }
  }

  async function adapterFiles(id: string, call: CallOptions = {}): Promise<AdapterFile[]> {
    return (await get<{ data: AdapterFile[] }>(`/adapters/${encodeURIComponent(id)}/files`, call)).data;
  }

  return {
    uploadDataset,
    listDatasets: (query: PageQuery = {}, call: CallOptions = {}) => get<Paged<Dataset>>('/datasets', call, query),
    getDataset: (id: string, call: CallOptions = {}) => get<Dataset>(`/datasets/${encodeURIComponent(id)}`, call),
    deleteDataset: (id: string, call: CallOptions = {}) => remove(`/datasets/${encodeURIComponent(id)}`, call),

    createJob: (request: JobRequest, call: CreateJobOptions = {}) => postJob<Job>(request, call),
    /** What the job would do; nothing is queued. */
    dryRun: (request: JobRequest, call: CallOptions = {}) => postJob<Report>(request, call, { dry_run: true }),
    listJobs: (query: ListJobsQuery = {}, call: CallOptions = {}) => get<Paged<Job>>('/jobs', call, query),
    getJob: (id: string, call: CallOptions = {}) => get<Job>(`/jobs/${encodeURIComponent(id)}`, call),
    /** The job as it is then: a waiting one is `cancelled`, a running one will be when its worker has stopped. */
    cancelJob: (id: string, { signal }: CallOptions = {}) =>
      transport.json<Job>({ method: 'POST', path: `/jobs/${encodeURIComponent(id)}/cancel`, signal }),
    /** Puts a failed or cancelled job back among the waiting; it goes on from its last checkpoint. */
    resumeJob: (id: string, { signal }: CallOptions = {}) =>
      transport.json<Job>({ method: 'POST', path: `/jobs/${encodeURIComponent(id)}/resume`, signal }),
    /** Newest first. */
    checkpoints: async (id: string, call: CallOptions = {}) =>
      (await get<{ data: Checkpoint[] }>(`/jobs/${encodeURIComponent(id)}/checkpoints`, call)).data,
    publishCheckpoint,
    deleteJob: (id: string, call: CallOptions = {}) => remove(`/jobs/${encodeURIComponent(id)}`, call),
    /** Events past and to come until the job's last one, across lost connections. */
    events: (id: string, follow: FollowOptions = {}) => followJobEvents(transport, id, follow),
    waitForJob,

    listAdapters: (query: PageQuery = {}, call: CallOptions = {}) => get<Paged<Adapter>>('/adapters', call, query),
    manifest: (id: string, call: CallOptions = {}) =>
      get<AdapterManifest>(`/adapters/${encodeURIComponent(id)}/manifest`, call),
    adapterFiles,
    importAdapter,
    deleteAdapter: (id: string, call: CallOptions = {}) => remove(`/adapters/${encodeURIComponent(id)}`, call),
    downloadAdapter,

    models: async (call: CallOptions = {}) => (await get<{ data: BaseModel[] }>('/models', call)).data,
    model: (name: string, call: CallOptions = {}) => get<BaseModelDetail>(`/models/${encodeURIComponent(name)}`, call),
  };
}

async function openSource(source: UploadSource): Promise<AsyncIterable<Uint8Array | string>> {
  if ('chunks' in source) return source.chunks;
  if ('text' in source) return Readable.from([source.text]);
  const file = await open(source.file).catch((cause: Error) => {
    throw new ProductError('invalid_request', `Cannot read ${source.file}: ${cause.message}`, { param: 'file', cause });
  });
  return file.createReadStream();
}

async function* countedChunks(
  chunks: AsyncIterable<Uint8Array | string>,
  onProgress: UploadOptions['onProgress'],
): AsyncGenerator<Uint8Array> {
  let sentBytes = 0;
  for await (const chunk of chunks) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    yield bytes;
    sentBytes += bytes.byteLength;
    onProgress?.(sentBytes);
  }
}
