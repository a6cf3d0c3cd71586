import { readFile } from 'node:fs/promises';

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
