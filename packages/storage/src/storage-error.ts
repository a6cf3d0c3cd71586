import { ProductError } from '@lorasmith/contracts';

/** What the file system says when there is no room: the disk, the user's quota, the largest file. */
const NO_ROOM = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

const ABSENT = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EISDIR']);

/** `code` of a failed system call, for instance ENOENT; undefined for any other error. */
export function systemErrorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Whether a system call failed because what it asked for is not there, or is not what a bundle has. */
export function isAbsent(error: unknown): boolean {
  return ABSENT.has(systemErrorCode(error) ?? '');
}

/** The error to throw on from a write: `storage_full` where there was no room, else the error as it is. */
export function asStorageError(error: unknown): unknown {
  const code = systemErrorCode(error);
  if (code === undefined || !NO_ROOM.has(code)) return error;
  return new ProductError('storage_full', 'The data folder has no room left. Free some space, then try again.', {
    cause: error,
  });
}
