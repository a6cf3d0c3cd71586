import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';

/** Unfinished folders are `.partial-<pid>-<number>`, beside the finished ones, so that publishing is one rename. */
const PARTIAL_NAME = /^\.partial-(\d+)-\d+$/;

let partialCount = 0;

/**
 * Fills a folder of the cache once. A folder that is there is complete, because it appears by one rename after `fill`
 * has returned: a run that is killed leaves a partial folder of another name, which the next run removes.
 *
 * @param {string} folder the finished folder
 * @param {(partial: string) => Promise<void>} fill writes the content into an empty folder
 * @returns {Promise<boolean>} whether it had to be filled
 */
export async function publishFolder(folder, fill) {
  if (existsSync(folder)) return false;
  const parent = path.dirname(folder);
  await mkdir(parent, { recursive: true });
  await removeAbandoned(parent);
  partialCount += 1;
  const partial = path.join(parent, `.partial-${process.pid}-${partialCount}`);
  await mkdir(partial);
  try {
    await fill(partial);
    await rename(partial, folder);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    // Another set-up, running beside this one, was first: its folder has the same content.
    if (existsSync(folder)) return false;
    throw error;
  }
  return true;
}

/** @param {string} parent */
async function removeAbandoned(parent) {
  for (const name of await readdir(parent)) {
    const owner = PARTIAL_NAME.exec(name)?.[1];
    if (owner && !isRunning(Number(owner))) await rm(path.join(parent, name), { recursive: true, force: true });
  }
}

/** @param {number} pid */
function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it runs, as somebody else.
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}
