import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import type { Logger } from 'pino';

export interface FolderChecks {
  dataDir: string;
  /** Null: base models come from elsewhere. */
  modelsDir: string | null;
  logger: Logger;
}

/**
 * Looks at the folders of a service before it starts: the data folder is made where it is missing and must take a file;
 * a models folder without a model, or a full disk, is a warning, since both can be mended while the service runs.
 *
 * @throws ProductError `invalid_configuration` when the data folder cannot be written
 */
export async function checkFolders({ dataDir, modelsDir, logger }: FolderChecks): Promise<void> {
  const probe = path.join(dataDir, `.write-test-${randomUUID()}`);
  try {
    await mkdir(dataDir, { recursive: true });
    await writeFile(probe, 'a few bytes');
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw unwritable(dataDir, error as Error);
    logger.warn({ folder: dataDir }, 'the disk of DATA_DIR is full: no dataset, checkpoint or adapter can be written');
  } finally {
    await rm(probe, { force: true }).catch(() => {});
  }
  if (modelsDir === null) return;
  const problem = await modelsProblem(modelsDir);
  if (problem !== null) logger.warn({ folder: modelsDir }, problem);
}

function unwritable(dataDir: string, cause: Error): ProductError {
  const user = process.getuid === undefined ? '' : ` by user ${process.getuid()}`;
  const message = `DATA_DIR ${JSON.stringify(dataDir)} cannot be written${user} (${cause.message}). Give it to that user (chown -R), or name another folder.`;
  return new ProductError('invalid_configuration', message, { param: 'DATA_DIR', cause });
}

async function modelsProblem(modelsDir: string): Promise<string | null> {
  const help = 'Put a base model there: a folder in Hugging Face layout, or npm run import-gguf';
  try {
    const entries = await readdir(modelsDir, { withFileTypes: true });
    const hasFolder = entries.some((entry) => !entry.name.startsWith('.') && !entry.isFile());
    return hasFolder ? null : `MODELS_DIR has no base model in it. ${help}`;
  } catch (error) {
    return `MODELS_DIR cannot be read (${(error as Error).message}). ${help}`;
  }
}
