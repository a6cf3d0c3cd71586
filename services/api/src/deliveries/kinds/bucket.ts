import { addAbortSignal, Readable } from 'node:stream';
import { AdapterFile, AdapterId, type BucketTarget, jobOrigin, Nullable, ProductError } from '@lorasmith/contracts';
import { digestStream, openS3Objects, type S3Objects } from '@lorasmith/storage';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import type { AdapterForm, AdapterSource } from '../adapter-source.js';
import type { DeliveryAttempt, DeliveryConfig, DeliveryKind } from '../delivery-kind.js';

/** The object that names the newest files. */
const LATEST = 'latest.json';
const MAX_LATEST_BYTES = 2 ** 20;
/** Uploads of this age belong to a process that died. */
const STALE_MS = 24 * 3_600_000;
const VARIABLES = { bucket: 'DELIVERY_BUCKETS', region: 'DELIVERY_S3_REGION', endpoint: 'DELIVERY_S3_ENDPOINT' };

/** The content of `PREFIX/latest.json`. */
const Latest = Type.Object({
  adapter: AdapterId,
  /** The folder of the files, below the prefix. */
  folder: Type.String(),
  merged: Type.Boolean(),
  job: Nullable(Type.String()),
  created_at: Type.String(),
  files: Type.Array(AdapterFile),
});
type Latest = Static<typeof Latest>;

/**
 * Delivers into a bucket. The files go below `PREFIX/ADAPTER`, are read again and compared with their digests, and then one object,
 * `PREFIX/latest.json`, is replaced, which names them. So a reader that begins there finds all files of one adapter. Those of earlier
 * adapters stay.
 */
export function bucketKind({
  config,
  source,
}: {
  config: Pick<DeliveryConfig, 'buckets' | 's3'>;
  source: AdapterSource;
}): DeliveryKind<BucketTarget> {
  const { accessKeyId, secretAccessKey, ...settings } = config.s3;
  const credentials = accessKeyId === null || secretAccessKey === null ? undefined : { accessKeyId, secretAccessKey };
  const check = ({ bucket, prefix, layout, merged }: BucketTarget): void => {
    if (!config.buckets.includes(bucket)) {
      const message = 'This service delivers into no such bucket: its operator has to add it to DELIVERY_BUCKETS.';
      throw invalid(message, 'bucket');
    }
    if (merged === true && layout === 'per-expert') {
      throw invalid('A merged model has no layout. Leave out layout, or merged.', 'layout');
    }
    const taken = prefix.split('/').find((part) => part === LATEST || part.startsWith('ad_'));
    if (taken === undefined) return;
    throw invalid(
      `A part of a prefix cannot be ${LATEST} or begin with ad_, which deliveries themselves use.`,
      'prefix',
    );
  };
  return {
    placeOf: ({ bucket, prefix }) => `s3 ${bucket} ${prefix}`,
    check,
    checkAdapter: () => {},
    checkOwner: async () => {},
    async deliver(target, attempt) {
      check(target);
      const { bucket, prefix } = target;
      const objects = openS3Objects({ ...settings, bucket, prefix: `${prefix}/`, credentials, variables: VARIABLES });
      try {
        await deliverInto(objects, target, { ...attempt, source });
      } finally {
        objects.close();
      }
    },
  };
}

function invalid(message: string, param: string): ProductError {
  return new ProductError('invalid_delivery', message, { param });
}

async function deliverInto(
  objects: S3Objects,
  { layout, merged = false }: BucketTarget,
  { manifest, source, signal, report, log }: DeliveryAttempt & { source: AdapterSource },
): Promise<void> {
  const { id, origin } = manifest;
  const form: AdapterForm = { layout, merged };
  // The forms have files of the same names.
  const folder = merged ? `${id}-merged` : layout === 'per-expert' ? `${id}-per-expert` : id;
  const before = await latestIn(objects);
  report({ replaced: before?.adapter ?? null });
  await objects.abortUploads('', new Date(Date.now() - STALE_MS)).catch((error: unknown) => {
    log.info({ err: error }, 'incomplete uploads of a bucket could not be removed');
  });
  const files = await source.files(id, form, signal);
  for (const file of files) {
    signal.throwIfAborted();
    const key = `${folder}/${file.name}`;
    if (await isStored(objects, key, file)) continue;
    const content = Readable.from(await source.read(id, file.name, form, signal), { objectMode: false });
    await objects.write(key, addAbortSignal(signal, content), file.bytes).catch((error: unknown) => {
      signal.throwIfAborted();
      throw error;
    });
    if (await isStored(objects, key, file)) continue;
    const message = `${file.name} is in the bucket with other bytes than it was sent with. What was there before is as it was.`;
    throw new ProductError('delivery_not_verified', message);
  }
  const job = jobOrigin(origin)?.job ?? null;
  const latest: Latest = { adapter: id, folder, merged, job, created_at: new Date().toISOString(), files };
  const isThere = before !== null && before.folder === folder && Value.Equal(before.files, files);
  // Whoever took the delivery over writes it.
  signal.throwIfAborted();
  if (isThere) return;
  const text = Buffer.from(`${JSON.stringify(latest, null, 2)}\n`);
  await objects.write(LATEST, Readable.from([text], { objectMode: false }), text.length);
  signal.throwIfAborted();
  if ((await latestIn(objects))?.folder === folder) return;
  throw new ProductError('delivery_not_verified', `${LATEST} does not name the adapter after it was written.`);
}

/** Null if there is none, or one that no delivery has written. */
async function latestIn(objects: S3Objects): Promise<Latest | null> {
  const text = await objects.readWhole(LATEST, MAX_LATEST_BYTES);
  if (text === null) return null;
  try {
    const latest: unknown = JSON.parse(text.toString());
    return Value.Check(Latest, latest) ? latest : null;
  } catch {
    return null;
  }
}

/** True if the object is there with these bytes, which are read. */
async function isStored(objects: S3Objects, key: string, { bytes, sha256 }: AdapterFile): Promise<boolean> {
  const content = await objects.read(key);
  if (content === null) return false;
  const digest = await digestStream(content).catch((error: unknown) => {
    throw objects.failure(error);
  });
  return digest.bytes === bytes && digest.sha256 === sha256;
}
