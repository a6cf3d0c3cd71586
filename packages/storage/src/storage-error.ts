import { ProductError } from '@lorasmith/contracts';

/** Error codes of a full disk, a used-up quota and a too large file. */
const NO_SPACE = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

const ABSENT = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EISDIR']);

/** `code` of a failed system call, for example ENOENT; undefined for any other error. */
export function systemErrorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Whether a system call failed because a file is missing, or is not of a type that bundles have. */
export function isAbsent(error: unknown): boolean {
  return ABSENT.has(systemErrorCode(error) ?? '');
}

/** Whether a rename failed because a folder with content has that name. */
export function isOccupied(error: unknown): boolean {
  return ['ENOTEMPTY', 'EEXIST'].includes(systemErrorCode(error) ?? '');
}

/** Maps the error of a write: `storage_full` if there was no space, otherwise the same error. */
export function asStorageError(error: unknown): unknown {
  const code = systemErrorCode(error);
  return code === undefined || !NO_SPACE.has(code) ? error : storageFull('', error);
}

/** @param details - What else is known, as the rest of `The disk of the data folder is full`. */
export function storageFull(details: string, cause?: unknown): ProductError {
  const message = `The disk of the data folder is full${details}. Free some space, then try again.`;
  return new ProductError('storage_full', message, { cause });
}
