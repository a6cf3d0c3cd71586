import { readdir, readFile } from 'node:fs/promises';

/** A process in /proc. */
export interface RunningProcess {
  pid: number;
  parent: number;
  /** The program in its command line. */
  program: string;
}

/** The processes whose environment has this line, without zombies. */
export async function processesWith(environmentLine: string): Promise<RunningProcess[]> {
  const found: RunningProcess[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const environment = await readFile(`/proc/${name}/environ`, 'utf8');
      if (!environment.split('\0').includes(environmentLine)) continue;
      const [state = '', parent = ''] = (await readFile(`/proc/${name}/stat`, 'utf8'))
        .replace(/^.*\) /s, '')
        .split(' ');
      if (state === 'Z' || state === 'X') continue;
      const commandLine = (await readFile(`/proc/${name}/cmdline`, 'utf8')).split('\0');
      const program = commandLine.find((part) => /\.m?js$/.test(part)) ?? commandLine[0] ?? '';
      found.push({ pid: Number(name), parent: Number(parent), program });
    } catch {
      // It has ended meanwhile, or is another user's.
    }
  }
  return found;
}

/** The child processes of a process. */
export async function childrenOf(pid: number): Promise<number[]> {
  const tasks = await readdir(`/proc/${pid}/task`).catch(() => []);
  const lists = await Promise.all(
    tasks.map((task) => readFile(`/proc/${pid}/task/${task}/children`, 'utf8').catch(() => '')),
  );
  return lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
}

/** Continues a stopped process, if it still exists. */
export function continueProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT');
  } catch {
    // It has ended meanwhile.
  }
}

export async function isAlive(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  return status !== null && !/^\d+ \(.*\) [ZX]/s.test(status);
}
