import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { processStartTime } from '../setup/process-life.mjs';
import { SetupError } from '../setup/setup-error.mjs';

const LOCK_NAME = 'stack.lock';

/**
 * Locks the data folder against a second stack: two Redis servers on one append-only file would destroy it.
 *
 * @param {string} dataDir is created if it is missing
 * @returns {Promise<() => Promise<void>>} releases the lock
 * @throws {SetupError} when a running stack holds it, or the folder is not writable
 */
export async function lockDataDir(dataDir) {
  const lockFile = path.join(dataDir, LOCK_NAME);
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    const holder = await readFile(lockFile, 'utf8').catch(() => '');
    const [pid = '', startTime = ''] = holder.split(' ');
    if (startTime !== '' && (await processStartTime(pid)) === startTime) {
      throw new SetupError(
        `${dataDir} is in use by another Lorasmith stack (process ${pid})`,
        'stop that one first, or set DATA_DIR to another folder.',
      );
    }
    // The holder has ended without removing the file.
    if (holder) await rm(lockFile, { force: true });
    // Written to another file and then linked, so that an existing lock file always names its holder.
    const ownFile = `${lockFile}-${process.pid}`;
    await writeFile(ownFile, `${process.pid} ${await processStartTime(process.pid)}`);
    try {
      await link(ownFile, lockFile);
    } finally {
      await rm(ownFile, { force: true });
    }
  } catch (cause) {
    if (cause instanceof SetupError) throw cause;
    throw new SetupError(
      `the data folder ${dataDir} cannot be used: ${/** @type {Error} */ (cause).message}`,
      'set DATA_DIR to a folder that you can write.',
      { cause },
    );
  }
  return () => rm(lockFile, { force: true });
}
