import { ProductError } from '@lorasmith/contracts';
import { systemErrorCode } from '../storage-error.js';

interface S3Failure extends Error {
  $metadata?: { httpStatusCode?: number };
}

const MISSING = new Set(['NoSuchKey', 'NotFound', 'NoSuchUpload']);
/** What services answer where the bucket or its owner has no room left. */
const NO_ROOM = new Set(['QuotaExceeded', 'XMinioStorageFull', 'InsufficientStorage', 'EntityTooLarge']);
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

/** Whether the service says that the object, not the bucket, is not there. */
export function isMissing(error: unknown): boolean {
  return MISSING.has((error as Error).name);
}

/** Whether a conditional put found an object there. */
export function isPreconditionFailed(error: unknown): boolean {
  const { name, $metadata } = error as S3Failure;
  return name === 'PreconditionFailed' || $metadata?.httpStatusCode === 412;
}

/**
 * The error to throw on from a call to S3: `storage_full`, `storage_unavailable`, or the error as it is where it is the
 * caller's own, for instance a file that cannot be read.
 */
export function asS3Error(error: unknown, bucket: string): unknown {
  if (error instanceof ProductError || !(error instanceof Error)) return error;
  const { name, $metadata } = error as S3Failure;
  if (NO_ROOM.has(name) || $metadata?.httpStatusCode === 507) {
    return new ProductError('storage_full', `The bucket ${bucket} has no room left.`, { cause: error });
  }
  if (name === 'NoSuchBucket' || ($metadata?.httpStatusCode === 404 && !isMissing(error))) {
    return unavailable(
      `There is no bucket ${bucket}. Make it, or correct S3_BUCKET, S3_REGION and S3_ENDPOINT.`,
      error,
    );
  }
  if (REFUSED.has(name) || $metadata?.httpStatusCode === 403) {
    const message = `The store refuses the bucket ${bucket} (${name}). Look at the credentials, their rights and S3_REGION.`;
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
