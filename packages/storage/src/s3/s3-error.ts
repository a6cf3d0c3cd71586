import { ProductError } from '@lorasmith/contracts';
import { systemErrorCode } from '../storage-error.js';

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

/** Whether the object, not the bucket, is missing. */
export function isMissing(error: unknown): boolean {
  return MISSING.has((error as Error).name);
}

/** Whether a conditional put failed because the object exists. */
export function isPreconditionFailed(error: unknown): boolean {
  const { name, $metadata } = error as S3Failure;
  return name === 'PreconditionFailed' || $metadata?.httpStatusCode === 412;
}

/**
 * Maps the error of a call to S3: to `storage_full` or `storage_unavailable`, or to the same error if it is the caller's own,
 * for example a file that cannot be read.
 */
export function asS3Error(error: unknown, bucket: string): unknown {
  if (error instanceof ProductError || !(error instanceof Error)) return error;
  const { name, $metadata } = error as S3Failure;
  if (NO_SPACE.has(name) || $metadata?.httpStatusCode === 507) {
    return new ProductError('storage_full', `The bucket ${bucket} is full.`, { cause: error });
  }
  // The answer to HEAD has no code, so a missing bucket is only not found. An object that is not found is no error of its caller.
  const isBucketMissing = name === 'NotFound' || !isMissing(error);
  if (name === 'NoSuchBucket' || ($metadata?.httpStatusCode === 404 && isBucketMissing)) {
    return unavailable(
      `There is no bucket ${bucket}. Create it, or correct S3_BUCKET, S3_REGION and S3_ENDPOINT.`,
      error,
    );
  }
  if (REFUSED.has(name) || $metadata?.httpStatusCode === 403) {
    const message = `The store refuses the bucket ${bucket} (${name}). Check the credentials, their permissions and S3_REGION.`;
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
