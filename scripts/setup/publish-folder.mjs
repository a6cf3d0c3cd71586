import { existsSync, rmSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { processStartTime } from './process-life.mjs';

/** Unfinished folders are `.partial-<pid>-<number>`, beside the finished ones, so that publishing is one rename. */
const PARTIAL_NAME = /^\.partial-(\d+)-\d+$/;

/** Programs of a killed run may still write for a moment, so removing a folder may need retries. */
const REMOVAL = { recursive: true, force: true, maxRetries: 5, retryDelay: 100 };

let partialCount = 0;

/**
 * Fills a folder of the cache once. An existing folder is complete, because it is published with one rename after `fill`
 * has returned. A killed run leaves a partial folder with another name, which the next run removes.
 *
 * @param {string} folder the finished folder
 * @param {(partial: string) => Promise<void>} fill writes the content into an empty folder
 * @returns {Promise<boolean>} whether it had to be filled
 */
export async function publishFolder(folder, fill) {
  const parent = path.dirname(folder);
  await mkdir(parent, { recursive: true });
  await removeAbandoned(parent);
  if (existsSync(folder)) return false;
  partialCount += 1;
  const partial = path.join(parent, `.partial-${process.pid}-${partialCount}`);
  await mkdir(partial);
  const removePartial = () => rmSync(partial, REMOVAL);
  process.once('exit', removePartial);
  try {
    await fill(partial);
    await rename(partial, folder);
  } catch (error) {
    await rm(partial, REMOVAL);
    // A concurrent set-up was faster. Its folder has the same content.
    if (existsSync(folder)) return false;
    throw error;
  } finally {
    process.off('exit', removePartial);
  }
  return true;
}

/** @param {string} parent */
async function removeAbandoned(parent) {
  for (const name of await readdir(parent)) {
    const owner = PARTIAL_NAME.exec(name)?.[1];
    if (owner && (await processStartTime(owner)) === '') await rm(path.join(parent, name), REMOVAL);
  }
}
