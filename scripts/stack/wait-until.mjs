import { setTimeout as sleep } from 'node:timers/promises';
import { SetupError } from '../setup/setup-error.mjs';

const POLL_MS = 100;
const REQUEST_TIMEOUT_MS = 5_000;

/**
 * Waits until a part of the stack is ready.
 *
 * @param {() => Promise<boolean>} isReady
 * @param {{ process: import('./managed-process.mjs').ManagedProcess, timeoutMs: number, signal?: AbortSignal | undefined }} options
 * @throws {SetupError} with its last log lines, when the process ends first or the time is up; the reason of `signal` once
 *   that is aborted
 */
export async function waitUntil(isReady, { process: part, timeoutMs, signal }) {
  const deadline = Date.now() + timeoutMs;
  while (!(await isReady())) {
    signal?.throwIfAborted();
    if (!part.running) throw endedError(part, await part.exited);
    if (Date.now() > deadline) {
      throw new SetupError(
        `${part.name} was not ready within ${timeoutMs / 1000} s`,
        'see its last log lines above. On a very busy machine, try again.',
        { output: part.tail() },
      );
    }
    await sleep(POLL_MS);
  }
}

/**
 * @param {import('./managed-process.mjs').ManagedProcess} part
 * @param {string} how
 */
export function endedError(part, how) {
  return new SetupError(`${part.name} ${how}`, 'see its last log lines above.', { output: part.tail() });
}

/** @param {string} url @returns {Promise<boolean>} true if it answers with 200 */
export async function answersOk(url) {
  return (await readinessAt(url))?.length === 0;
}

/**
 * The state of a service, by its `/ready`.
 *
 * @param {string} url
 * @returns {Promise<string[] | undefined>} what is missing although it answers, such as space on a disk, which can be freed while
 *   it runs; undefined: it is not ready
 */
export async function readinessAt(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
    if (response.status === 200) {
      await response.body?.cancel();
      return [];
    }
    const { error } = /** @type {{ error: { details: { code: string, message: string }[] } }} */ (
      await response.json()
    );
    const faults = error.details;
    if (faults.length === 0 || faults.some(({ code }) => code !== 'storage_full')) return undefined;
    return faults.map(({ message }) => message);
  } catch {
    return undefined;
  }
}
