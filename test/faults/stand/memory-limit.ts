import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

/** True if this system has `prlimit`, which limits another process. */
export async function canLimitMemory(): Promise<boolean> {
  return await promisify(execFile)('prlimit', ['--version']).then(
    () => true,
    () => false,
  );
}

/** Limits a process to its current memory, so that its next large allocation fails. */
export async function limitMemory(pid: number): Promise<void> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const bytes = Number(/VmSize:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
  await promisify(execFile)('prlimit', ['--pid', String(pid), `--as=${bytes}`]);
}
