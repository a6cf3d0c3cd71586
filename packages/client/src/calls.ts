import type { DetailsChange, JobRequest, SweepRequest } from '@lorasmith/contracts';
import { type CallOptions, countedStream, type HttpTransport, sleep } from './http-transport.js';

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

export interface CreateJobOptions extends CallOptions {
  /**
   * Makes the call safe to repeat: the same key with the same request returns the same job.
   * @defaultValue a new key, which the client also uses for its own retries
   */
  idempotencyKey?: string | undefined;
}

export interface WaitOptions<Value> extends CallOptions {
  onProgress?: ((value: Value) => void) | undefined;
  /** The time between two requests. @defaultValue 1000 */
  intervalMs?: number | undefined;
}

/** Longer than the api takes to plan a job with the largest dataset that it accepts. */
const PLANNING_TIMEOUT_MS = 4 * 3_600_000;

/** Calls over HTTP in the ways that all resources share. */
export class Calls {
  readonly transport: HttpTransport;

  constructor(transport: HttpTransport) {
    this.transport = transport;
  }

  json<Answer>(request: Parameters<HttpTransport['json']>[0]): Promise<Answer> {
    return this.transport.json<Answer>(request);
  }

  get<Answer>(path: string, { signal }: CallOptions, query: object = {}): Promise<Answer> {
    return this.json<Answer>({ method: 'GET', path, query: { ...query }, signal });
  }

  /** Repeating it changes nothing more. */
  change<Answer>(path: string, body: DetailsChange, { signal }: CallOptions): Promise<Answer> {
    return this.json<Answer>({
      method: 'PATCH',
      path,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal,
      repeatable: true,
    });
  }

  remove(path: string, { signal }: CallOptions): Promise<void> {
    return this.json<void>({ method: 'DELETE', path, signal });
  }

  postPlanned<Answer>(
    path: '/jobs' | '/sweeps',
    body: JobRequest | SweepRequest,
    call: CreateJobOptions,
    query: { dry_run?: true } = {},
  ): Promise<Answer> {
    return this.json<Answer>({
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
  }

  upload<Answer>(
    path: string,
    query: Record<string, string | undefined>,
    contentType: string,
    source: UploadSource,
    { onProgress, signal }: UploadOptions,
  ): Promise<Answer> {
    return this.json<Answer>({
      method: 'POST',
      path,
      query,
      headers: { 'content-type': contentType },
      body: bodyOf(source, onProgress),
      signal,
      // An upload takes as long as the sender's connection needs.
      timeoutMs: null,
    });
  }

  async waitUntil<Value>(
    path: string,
    hasEnded: (value: Value) => boolean,
    { onProgress, intervalMs = 1_000, signal }: WaitOptions<Value>,
  ): Promise<Value> {
    for (;;) {
      const value = await this.get<Value>(path, { signal });
      onProgress?.(value);
      if (hasEnded(value)) return value;
      await sleep(intervalMs, signal);
    }
  }
}

function bodyOf(source: UploadSource, onProgress: UploadOptions['onProgress']) {
  if ('text' in source) return source.text;
  return 'blob' in source ? source.blob : countedStream(source.chunks, onProgress);
}

/** A random UUID. Browsers offer `crypto.randomUUID` only in secure contexts. */
export function newIdempotencyKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
