import { randomBytes } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';

/** Unfinished folders are `.partial-<pid>-<random>`, next to the finished ones, so that publishing is one rename. */
const PARTIAL_NAME = /^\.partial-(\d+)-\w+$/;

/** Programs of a killed run may still write for a moment, so removing a folder may need retries. */
const REMOVAL = { recursive: true, force: true, maxRetries: 5, retryDelay: 100 };

/** The partial folders of this process. In a container the next run may have the same process id as a killed one. @type {Set<string>} */
const ownPartials = new Set();

/**
 * Fills a folder of the cache once. An existing folder is complete, because it is published with one rename after `fill`
 * has returned. A killed run leaves a partial folder with another name, which the next run removes.
 *
 * @param {string} folder the finished folder
 * @param {(partial: string) => Promise<void>} fill writes the content into an empty folder
 * @returns {Promise<boolean>} true if it had to be filled
 */
export async function publishFolder(folder, fill) {
  const parent = path.dirname(folder);
  await mkdir(parent, { recursive: true });
  await removeAbandoned(parent);
  if (existsSync(folder)) return false;
  const name = `.partial-${process.pid}-${randomBytes(4).toString('hex')}`;
  ownPartials.add(name);
  const partial = path.join(parent, name);
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
    ownPartials.delete(name);
  }
  return true;
}

/** @param {string} parent */
async function removeAbandoned(parent) {
  for (const name of await readdir(parent)) {
    const owner = PARTIAL_NAME.exec(name)?.[1];
    if (owner === undefined || ownPartials.has(name)) continue;
    const isAbandoned = owner === String(process.pid) || (await processStartTime(owner)) === '';
    if (isAbandoned) await rm(path.join(parent, name), REMOVAL);
  }
}

/**
 * When a process started, in clock ticks since boot. Together with its id, this identifies it even if a later process has
 * the same id.
 *
 * @param {number | string} pid
 * @returns {Promise<string>} empty when there is no such process, or it is a zombie
 */
export async function processStartTime(pid) {
  const stat = await readFile(`/proc/${Number(pid)}/stat`, 'utf8').catch(() => '');
  // The second field is the program's name in parentheses and may contain anything; the start time is the 22nd.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return state === 'Z' ? '' : (fields[18] ?? '');
}
