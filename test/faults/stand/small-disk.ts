import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** A small separate file system. */
export interface SmallDisk {
  folder: string;
  /** Fills it up to this many free bytes, in pages of 4,096 bytes. */
  fill(leavingBytes: number): Promise<void>;
  /** Empties it again. */
  free(): Promise<void>;
  close(): Promise<void>;
}

const SIZE_BYTES = 16 * 2 ** 20;
/** Commands that create a mount namespace: the first needs no privileges, the second needs root. */
const WAYS = [
  ['unshare', '--map-root-user', '--mount'],
  ['unshare', '--mount'],
];

/**
 * A file system in memory, mounted in the namespace of one process. Others access it through that process, so it disappears
 * when the process ends.
 *
 * @returns null if the system does not allow the mount
 */
export async function openSmallDisk(): Promise<SmallDisk | null> {
  const mountPoint = await mkdtemp(path.join(tmpdir(), 'lorasmith-small-disk-'));
  for (const way of WAYS) {
    const holder = await hold(way, mountPoint);
    if (holder === null) continue;
    const folder = `/proc/${holder.pid}/root${mountPoint}`;
    const filler = path.join(folder, '.filler');
    const free = async () => await rm(filler, { force: true });
    return {
      folder,
      free,
      async fill(leavingBytes) {
        await free();
        const handle = await open(filler, 'wx');
        try {
          const { bavail, bsize } = await statfs(folder);
          await handle.writeFile(Buffer.alloc(Math.max(0, bavail * bsize - leavingBytes)));
        } catch (error) {
          // A service wrote meanwhile, so the disk is full.
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        } finally {
          await handle.close();
        }
      },
      async close() {
        const exited = once(holder, 'exit');
        holder.stdin?.end();
        await exited;
        await rm(mountPoint, { recursive: true, force: true });
      },
    };
  }
  await rm(mountPoint, { recursive: true, force: true });
  return null;
}

/** Starts the process that mounts the file system. It runs until its standard input ends. */
async function hold([program = '', ...args]: string[], mountPoint: string): Promise<ChildProcess | null> {
  const script = `mount -t tmpfs -o size=${SIZE_BYTES} tmpfs "$0" && echo mounted && exec cat`;
  const holder = spawn(program, [...args, 'sh', '-c', script, mountPoint], { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = new Promise<null>((resolve) => {
    holder.once('exit', () => resolve(null));
    holder.once('error', () => resolve(null));
  });
  const mounted = new Promise<ChildProcess>((resolve) => holder.stdout?.once('data', () => resolve(holder)));
  return await Promise.race([mounted, ended]);
}
