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
import type { ByteRange } from '../bundle-store.js';
import { asS3Error, isMissing, isPreconditionFailed } from './s3-error.js';

export interface S3Settings {
  /** Of another service than Amazon's; null: Amazon's of the region. */
  endpoint: string | null;
  region: string;
  bucket: string;
  /** What every key begins with; empty, or ends with `/`. */
  prefix: string;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. */
  forcePathStyle: boolean;
}

export interface S3Object {
  /** Without the prefix of the settings. */
  key: string;
  bytes: number;
  modified: Date;
}

/**
 * The few calls on objects that the store is made of. Keys are without the prefix of the settings.
 *
 * Every call throws ProductError `storage_unavailable` when the service does not answer or refuses, after a few tries.
 */
export interface S3Objects {
  /** Whether the bucket is there and may be used. */
  check(): Promise<void>;
  has(key: string): Promise<boolean>;
  /** Null when it is not there. */
  read(key: string, range?: ByteRange): Promise<Readable | null>;
  /** Null when it is not there. @throws when it is larger */
  readWhole(key: string, maxBytes: number): Promise<Buffer | null>;
  /** In pieces of bounded size, however large it is. */
  write(key: string, source: Readable, bytes: number): Promise<void>;
  /** In one step, and only where there is none: of all who try one succeeds. */
  create(key: string, content: string): Promise<'created' | 'exists'>;
  remove(key: string): Promise<void>;
  /** By key. */
  list(prefix: string): AsyncGenerator<S3Object>;
  /** Gives back the room of uploads that were begun before this time and not finished. @returns how many */
  endUploads(prefix: string, begunBefore: Date): Promise<number>;
  /** The error to throw on where reading what {@link read} gave failed. */
  failure(error: unknown): unknown;
  close(): void;
}

/** A lost connection is found soon; a call is tried again with growing pauses. */
const CONNECT_TIMEOUT_MS = 5_000;
/** Without a byte in either direction. */
const IDLE_TIMEOUT_MS = 60_000;
const MAX_TRIES = 4;
/** Other services than Amazon's answer 409 where two conditional puts meet. */
const MAX_CREATE_TRIES = 5;
const MAX_SOCKETS = 64;

const MEBIBYTE = 2 ** 20;
const MIN_PART_BYTES = 8 * MEBIBYTE;
/** An upload has 10,000 parts at most. */
const MAX_PARTS = 9_000;
/** Parts in memory at once, for each upload. */
const PARTS_AT_ONCE = 3;

/**
 * Credentials come from where the official client looks for them: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a
 * shared file, the role of the machine or container.
 */
export function openS3Objects({ endpoint, region, bucket, prefix, forcePathStyle }: S3Settings): S3Objects {
  const client = new S3Client({
    region,
    forcePathStyle,
    maxAttempts: MAX_TRIES,
    ...(endpoint === null ? {} : { endpoint }),
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
      throw asS3Error(error, bucket);
    }
  };
  /** Null where the service says that the object is not there. */
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

    async write(key, source, bytes) {
      const partSize = Math.max(MIN_PART_BYTES, Math.ceil(bytes / MAX_PARTS / MEBIBYTE) * MEBIBYTE);
      const upload = new Upload({ client, params: { ...at(key), Body: source }, partSize, queueSize: PARTS_AT_ONCE });
      await onS3(() => upload.done());
    },

    async create(key, content) {
      for (let tries = 1; ; tries++) {
        try {
          const command = { ...at(key), Body: content, ContentType: 'application/json', IfNoneMatch: '*' };
          await client.send(new PutObjectCommand(command));
          return 'created';
        } catch (error) {
          if (isPreconditionFailed(error)) return 'exists';
          const meets = (error as Error).name === 'ConditionalRequestConflict';
          if (!meets || tries === MAX_CREATE_TRIES) throw asS3Error(error, bucket);
        }
      }
    },

    remove: (key) => onS3(async () => void (await client.send(new DeleteObjectCommand(at(key))))),

    async *list(under) {
      let ContinuationToken: string | undefined;
      do {
        const command = new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix + under, ContinuationToken });
        const page = await onS3(() => client.send(command));
        for (const { Key, Size, LastModified } of page.Contents ?? []) {
          yield { key: Key!.slice(prefix.length), bytes: Size ?? 0, modified: LastModified ?? new Date() };
        }
        ContinuationToken = page.IsTruncated ? page.NextContinuationToken : undefined;
      } while (ContinuationToken !== undefined);
    },

    async endUploads(under, begunBefore) {
      const command = new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: prefix + under });
      let ended = 0;
      // One page of a thousand: the next sweep takes the rest.
      for (const { Key, UploadId, Initiated } of (await onS3(() => client.send(command))).Uploads ?? []) {
        if (Initiated === undefined || Initiated > begunBefore) continue;
        await unlessMissing(() => client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId })));
        ended++;
      }
      return ended;
    },

    failure: (error) => asS3Error(error, bucket),
    close: () => client.destroy(),
  };
}
