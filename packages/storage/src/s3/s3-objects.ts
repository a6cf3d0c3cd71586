import type { Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { mapWithConcurrency } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';
import type { ByteRange, TemporaryUrlOptions } from '../bundle-store.js';
import { systemErrorCode } from '../local-files.js';

export interface S3Settings {
  /** Address of a service other than Amazon's; null for Amazon's in the region. */
  endpoint: string | null;
  region: string;
  bucket: string;
  /** Prefix of every key; empty, or ends with `/`. */
  prefix: string;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. */
  forcePathStyle: boolean;
  /** @defaultValue from the standard places of the official client */
  credentials?: { accessKeyId: string; secretAccessKey: string } | undefined;
  /** The variables that name bucket, region and endpoint, for messages. @defaultValue those of the store */
  variables?: S3Variables | undefined;
}

/** Names of settings. */
export interface S3Variables {
  bucket: string;
  region: string;
  endpoint: string;
}
const STORE_VARIABLES: S3Variables = { bucket: 'S3_BUCKET', region: 'S3_REGION', endpoint: 'S3_ENDPOINT' };

export interface S3Object {
  /** The key without the prefix of the settings. */
  key: string;
  bytes: number;
  modified: Date;
}

/** The most keys in an answer to a list request. */
export const KEYS_PER_REQUEST = 1_000;

export interface ListOptions {
  after?: string | undefined;
  pageSize?: number;
}

/**
 * The calls on objects that the store needs. Keys are without the prefix of the settings.
 *
 * Every call throws ProductError `storage_unavailable` when the service does not answer or refuses, after some retries.
 */
export interface S3Objects {
  /** Checks that the bucket exists and may be used. */
  check(): Promise<void>;
  has(key: string): Promise<boolean>;
  /** Null when it is missing. */
  read(key: string, range?: ByteRange): Promise<Readable | null>;
  /** Null when it is missing. @throws when it is larger */
  readWhole(key: string, maxBytes: number): Promise<Buffer | null>;
  /** A signed address of the object, for GET alone. It need not exist. */
  temporaryUrl(key: string, options: TemporaryUrlOptions): Promise<string>;
  /** Writes in parts of limited size, whatever the length. */
  write(key: string, source: Readable, bytes: number): Promise<void>;
  /** Writes in one step, and only if the object does not exist: of concurrent calls one succeeds. */
  create(key: string, content: string): Promise<'created' | 'exists'>;
  remove(key: string): Promise<void>;
  /**
   * Lists objects in the order of their keys.
   * @param options.after - Only keys beyond this one. @defaultValue all
   * @param options.pageSize - Keys per request, at most a thousand. @defaultValue a thousand
   */
  list(prefix: string, options?: ListOptions): AsyncGenerator<S3Object>;
  /** Aborts incomplete uploads that were started before this time, which frees their space. @returns their number */
  abortUploads(prefix: string, startedBefore: Date): Promise<number>;
  /** Maps an error of reading a stream of {@link read}. */
  failure(error: unknown): unknown;
  close(): void;
}

/** Short, because a call is retried with growing pauses. */
const CONNECT_TIMEOUT_MS = 5_000;
/** The time without a byte in either direction. */
const IDLE_TIMEOUT_MS = 60_000;
const MAX_TRIES = 4;
/** Services other than Amazon's answer 409 to concurrent conditional puts. */
const MAX_CREATE_TRIES = 5;
const MAX_SOCKETS = 64;

const MEBIBYTE = 2 ** 20;
const MIN_PART_BYTES = 8 * MEBIBYTE;
/** Below the limit of 10,000 parts per upload. */
const MAX_PARTS = 9_000;
/** Parts of an upload in memory at a time. */
const PARTS_AT_ONCE = 3;

/**
 * Opens a bucket. Without credentials in the settings they come from the standard places of the official client:
 * `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a shared file, the role of the machine or container.
 */
export function openS3Objects(settings: S3Settings): S3Objects {
  const { endpoint, region, bucket, prefix, forcePathStyle, credentials, variables = STORE_VARIABLES } = settings;
  const client = new S3Client({
    region,
    forcePathStyle,
    maxAttempts: MAX_TRIES,
    ...(endpoint === null ? {} : { endpoint }),
    ...(credentials === undefined ? {} : { credentials }),
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: IDLE_TIMEOUT_MS,
      httpAgent: { keepAlive: true, maxSockets: MAX_SOCKETS },
      httpsAgent: { keepAlive: true, maxSockets: MAX_SOCKETS },
    },
  });
  const at = (key: string) => ({ Bucket: bucket, Key: prefix + key });
  const onS3 = async <Result>(call: () => Promise<Result>): Promise<Result> => {
    try {
      return await call();
    } catch (error) {
      throw asS3Error(error, bucket, variables);
    }
  };
  /** Null if the object is missing. */
  const unlessMissing = <Result>(call: () => Promise<Result>): Promise<Result | null> =>
    onS3(() => call().catch((error: unknown) => (isMissing(error) ? null : Promise.reject(error))));

  const read = async (key: string, range?: ByteRange): Promise<Readable | null> => {
    const Range = range === undefined ? undefined : `bytes=${range.start}-${range.end}`;
    const answer = await unlessMissing(() => client.send(new GetObjectCommand({ ...at(key), Range })));
    return answer === null ? null : (answer.Body as Readable);
  };

  return {
    check: () => onS3(async () => void (await client.send(new HeadBucketCommand({ Bucket: bucket })))),

    has: async (key) => (await unlessMissing(() => client.send(new HeadObjectCommand(at(key))))) !== null,

    read,

    async readWhole(key, maxBytes) {
      const body = await read(key);
      if (body === null) return null;
      const chunks: Buffer[] = [];
      let bytes = 0;
      return await onS3(async () => {
        for await (const chunk of body as AsyncIterable<Buffer>) {
          bytes += chunk.length;
          if (bytes > maxBytes) throw new Error(`${key} has more than ${maxBytes} bytes`);
          chunks.push(chunk);
        }
        return Buffer.concat(chunks);
      });
    },

    temporaryUrl(key, { seconds, contentType, fileName }) {
      const command = new GetObjectCommand({
        ...at(key),
        ResponseContentType: contentType,
        ResponseContentDisposition: `attachment; filename="${fileName}"`,
      });
      return onS3(() => getSignedUrl(client, command, { expiresIn: seconds }));
    },

    async write(key, source, bytes) {
      const partSize = Math.max(MIN_PART_BYTES, Math.ceil(bytes / MAX_PARTS / MEBIBYTE) * MEBIBYTE);
      const upload = new Upload({ client, params: { ...at(key), Body: source }, partSize, queueSize: PARTS_AT_ONCE });
      await onS3(() => upload.done());
    },

    async create(key, content) {
      for (let tries = 1; ; tries++) {
        try {
          const body = { Body: content, ContentLength: Buffer.byteLength(content), ContentType: 'application/json' };
          await client.send(new PutObjectCommand({ ...at(key), ...body, IfNoneMatch: '*' }));
          return 'created';
        } catch (error) {
          if (isPreconditionFailed(error)) return 'exists';
          const isConflict = (error as Error).name === 'ConditionalRequestConflict';
          if (!isConflict || tries === MAX_CREATE_TRIES) throw asS3Error(error, bucket, variables);
        }
      }
    },

    remove: (key) => onS3(async () => void (await client.send(new DeleteObjectCommand(at(key))))),

    async *list(under, { after, pageSize = KEYS_PER_REQUEST } = {}) {
      const from = after === undefined ? {} : { StartAfter: prefix + after };
      let ContinuationToken: string | undefined;
      do {
        const command = new ListObjectsV2Command({
          Bucket: bucket,
          Prefix: prefix + under,
          MaxKeys: Math.min(pageSize, KEYS_PER_REQUEST),
          ...from,
          ContinuationToken,
        });
        const page = await onS3(() => client.send(command));
        for (const { Key, Size, LastModified } of page.Contents ?? []) {
          yield { key: Key!.slice(prefix.length), bytes: Size ?? 0, modified: LastModified ?? new Date() };
        }
        ContinuationToken = page.IsTruncated ? page.NextContinuationToken : undefined;
      } while (ContinuationToken !== undefined);
    },

    async abortUploads(under, startedBefore) {
      const command = new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: prefix + under });
      let aborted = 0;
      // One page of a thousand; the next sweep continues.
      for (const { Key, UploadId, Initiated } of (await onS3(() => client.send(command))).Uploads ?? []) {
        if (Initiated === undefined || Initiated > startedBefore) continue;
        await unlessMissing(() => client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId })));
        aborted++;
      }
      return aborted;
    },

    failure: (error) => asS3Error(error, bucket, variables),
    close: () => client.destroy(),
  };
}

interface S3Failure extends Error {
  $metadata?: { httpStatusCode?: number };
}

const MISSING = new Set(['NoSuchKey', 'NotFound', 'NoSuchUpload']);
/** Errors of services when the bucket is full or its owner's quota is used up. */
const NO_SPACE = new Set(['QuotaExceeded', 'XMinioStorageFull', 'InsufficientStorage', 'EntityTooLarge']);
const REFUSED = new Set([
  'AccessDenied',
  'Forbidden',
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'InvalidToken',
  'ExpiredToken',
  'CredentialsProviderError',
  'AuthorizationHeaderMalformed',
  'PermanentRedirect',
]);

/** True if the object, not the bucket, is missing. */
export function isMissing(error: unknown): boolean {
  return MISSING.has((error as Error).name);
}

/** True if a conditional put failed because the object exists. */
export function isPreconditionFailed(error: unknown): boolean {
  const { name, $metadata } = error as S3Failure;
  return name === 'PreconditionFailed' || $metadata?.httpStatusCode === 412;
}

/**
 * Maps the error of a call to S3: to `storage_full` or `storage_unavailable`, or to the same error if it is the caller's own,
 * for example a file that cannot be read.
 */
export function asS3Error(error: unknown, bucket: string, variables: S3Variables): unknown {
  if (error instanceof ProductError || !(error instanceof Error)) return error;
  const { name, $metadata } = error as S3Failure;
  if (NO_SPACE.has(name) || $metadata?.httpStatusCode === 507) {
    return new ProductError('storage_full', `The bucket ${bucket} is full.`, { cause: error });
  }
  // The answer to HEAD has no code, so a missing bucket is only not found. An object that is not found is no error of its caller.
  const isBucketMissing = name === 'NotFound' || !isMissing(error);
  if (name === 'NoSuchBucket' || ($metadata?.httpStatusCode === 404 && isBucketMissing)) {
    return unavailable(
      `There is no bucket ${bucket}. Create it, or correct ${variables.bucket}, ${variables.region} and ${variables.endpoint}.`,
      error,
    );
  }
  if (REFUSED.has(name) || $metadata?.httpStatusCode === 403) {
    const message = `The store refuses the bucket ${bucket} (${name}). Check the credentials, their permissions and ${variables.region}.`;
    return unavailable(message, error);
  }
  const fileCode = systemErrorCode(error);
  const isFileError = fileCode !== undefined && 'syscall' in error && 'path' in error && fileCode !== 'ECONNREFUSED';
  if (isFileError) return error;
  return unavailable(`The store of the bucket ${bucket} cannot be reached. Try again once it is back.`, error);
}

function unavailable(message: string, cause: unknown): ProductError {
  return new ProductError('storage_unavailable', message, { cause });
}

/** Ids are random digits after their prefix: each starts an equal part of them. */
const DIGITS = [...'0123456789abcdef'];

/**
 * All keys under a prefix, in their order. Where they are more than one request answers, the rest is listed in parts at the same time: those up to
 * the first digit after the ids' own prefix, up to the next one, and so on to the end. So nothing is left out whatever the keys are, and only
 * those with random digits are listed faster.
 */
export async function listKeys(objects: Pick<S3Objects, 'list'>, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of objects.list(prefix)) {
    found.push(key);
    if (found.length === KEYS_PER_REQUEST) break;
  }
  const last = found.at(-1);
  if (last === undefined || found.length < KEYS_PER_REQUEST) return found;
  const ofIds = prefix + last.slice(prefix.length).replace(/_.*/s, '_');
  const starts = DIGITS.map((digit) => ofIds + digit).filter((start) => start > last);
  return [...found, ...(await listParts(objects, prefix, starts, last))];
}

/**
 * All keys under a prefix beyond `after`, in their order, in parts at the same time: up to the first of the divisions, up to the next one, and
 * so on to the end.
 * @param divisions - Sorted, each beyond `after`; any will do.
 */
export async function listParts(
  objects: Pick<S3Objects, 'list'>,
  prefix: string,
  divisions: readonly string[],
  after?: string,
): Promise<string[]> {
  const starts = [after, ...divisions];
  const parts = await mapWithConcurrency([...starts.keys()], starts.length, async (part) => {
    const end = starts[part + 1];
    const keys: string[] = [];
    for await (const { key } of objects.list(prefix, { after: starts[part] })) {
      if (end !== undefined && key > end) break;
      keys.push(key);
    }
    return keys;
  });
  return parts.flat();
}
