import { readdir, readFile } from 'node:fs/promises';

/**
 * The resources of a process at this moment.
 *
 * @typedef {{ memoryBytes: number, cpuSeconds: number, descriptors: number, threads: number }} ProcessFigures
 */

/** @param {number} pid @returns {Promise<ProcessFigures | null>} null if it has ended */
export async function figuresOf(pid) {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    const number = (/** @type {string} */ name) =>
      Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
    const descriptors = (await readdir(`/proc/${pid}/fd`)).length;
    const [user, system] = (await fieldsOf(pid)).slice(11, 13);
    // Linux counts in hundredths of a second.
    const cpuSeconds = (Number(user) + Number(system)) / 100;
    return { memoryBytes: number('VmRSS') * 1024, cpuSeconds, descriptors, threads: number('Threads') };
  } catch {
    return null;
  }
}

/** The fields of `stat` behind the name of the program. @param {number | string} pid */
async function fieldsOf(pid) {
  return (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ');
}

/**
 * @param {string} environmentLine a line in the environment of these processes only
 * @returns {Promise<{ pid: number, parent: number, program: string }[]>}
 */
export async function processesWith(environmentLine) {
  const found = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (!(await readFile(`/proc/${name}/environ`, 'utf8')).split('\0').includes(environmentLine)) continue;
      const [state, parent] = await fieldsOf(name);
      if (state === 'Z' || state === 'X') continue;
      const commandLine = (await readFile(`/proc/${name}/cmdline`, 'utf8')).split('\0');
      const program = commandLine.find((part) => /\.m?js$/.test(part)) ?? commandLine[0] ?? '';
      found.push({ pid: Number(name), parent: Number(parent), program });
    } catch {
      // It has ended in the meantime.
    }
  }
  return found;
}
