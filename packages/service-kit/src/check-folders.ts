import { randomUUID } from 'node:crypto';
import { access, chmod, constants, mkdir, readdir, rm, stat, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import type { Logger } from 'pino';
import type { ReadyCheck } from './http-app.js';

export interface FolderChecks {
  dataDir: string;
  /** Null if base models are not in a folder of this host. */
  modelsDir: string | null;
  logger: Logger;
}

/**
 * Checks the folders of a service before it starts. The data folder is created if it is missing, closed to other users, and must be writable.
 * A models folder without a model and a full disk are only warnings, because both can be fixed while the service runs.
 *
 * @throws ProductError `invalid_configuration` if the data folder is not writable
 */
export async function checkFolders({ dataDir, modelsDir, logger }: FolderChecks): Promise<void> {
  const probe = path.join(dataDir, `.write-test-${randomUUID()}`);
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    await closeToOthers(dataDir, logger);
    await writeFile(probe, 'a few bytes');
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw unwritable(dataDir, error as Error);
    logger.warn(
      { folder: dataDir },
      'the disk of DATA_DIR is full: datasets, checkpoints and adapters cannot be written',
    );
  } finally {
    await rm(probe, { force: true }).catch(() => {});
  }
  if (modelsDir === null) return;
  const problem = await modelsProblem(modelsDir);
  if (problem !== null) logger.warn({ folder: modelsDir }, problem);
}

/** The folder in which every store of the data folder stages what it writes: a folder with it is a data folder. */
const STAGING_FOLDER = '.staging';
const OTHERS = 0o077;
const STICKY = 0o1000;

/**
 * Takes from other users of this machine what they may do in the data folder: datasets and adapters are for their owners alone. A
 * folder that is also something else, such as /tmp, stays as it is.
 */
async function closeToOthers(dataDir: string, logger: Logger): Promise<void> {
  const { mode, uid } = await stat(dataDir);
  if ((mode & OTHERS) === 0 || uid !== process.getuid?.()) return;
  const entries = await readdir(dataDir);
  const isOwn = (mode & STICKY) === 0 && (entries.length === 0 || entries.includes(STAGING_FOLDER));
  if (isOwn) await chmod(dataDir, mode & ~OTHERS & 0o7777);
  else logger.warn({ folder: dataDir }, 'other users of this machine may read DATA_DIR: chmod 700 closes it');
}

/** The checks of the same folders for `/ready`. */
export function foldersReady({ dataDir, modelsDir }: Omit<FolderChecks, 'logger'>): Record<string, ReadyCheck> {
  return {
    data: async () => {
      await access(dataDir, constants.W_OK);
      await checkSpace(dataDir);
    },
    ...(modelsDir === null ? {} : { models: () => access(modelsDir) }),
  };
}

/** Less than a checkpoint of the smallest model, or a dataset, needs. */
const LEAST_FREE_BYTES = 4 * 2 ** 20;

/** @throws ProductError `storage_full` */
async function checkSpace(dataDir: string): Promise<void> {
  const { bavail, bsize } = await statfs(dataDir);
  if (bavail * bsize >= LEAST_FREE_BYTES) return;
  throw new ProductError(
    'storage_full',
    'the disk of DATA_DIR is full. Free some space: datasets, adapters or models.',
  );
}

function unwritable(dataDir: string, cause: Error): ProductError {
  const user = process.getuid === undefined ? '' : ` for user ${process.getuid()}`;
  const message = `DATA_DIR ${JSON.stringify(dataDir)} is not writable${user} (${cause.message}). Give it to that user (chown -R), or set another folder.`;
  return new ProductError('invalid_configuration', message, { param: 'DATA_DIR', cause });
}

async function modelsProblem(modelsDir: string): Promise<string | null> {
  const help =
    'Add one: lora models pull ORG/NAME, or a folder in Hugging Face layout with safetensors (GGUF is not read)';
  try {
    const entries = await readdir(modelsDir, { withFileTypes: true });
    const hasFolder = entries.some((entry) => !entry.name.startsWith('.') && !entry.isFile());
    return hasFolder ? null : `MODELS_DIR contains no base model. ${help}`;
  } catch (error) {
    return `MODELS_DIR cannot be read (${(error as Error).message}). ${help}`;
  }
}
