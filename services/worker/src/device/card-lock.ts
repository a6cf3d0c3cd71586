import { randomUUID } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { mkdir, unlink } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NoGpuError } from './gpu-faults.js';

export interface CardLockOptions {
  dataDir: string;
  uuid: string;
  /** Shown to another worker that wants the card. */
  workerName: string;
  /** The time to wait for a worker that is about to end. @defaultValue 10 000 */
  patienceMs?: number;
}

/** Another worker has the card. */
export class CardInUseError extends NoGpuError {
  constructor(uuid: string, holder: string) {
    super(
      `Worker ${holder} already trains on the GPU ${uuid}. A job is planned with all of its memory, so each worker needs a ` +
        'card of its own: set CUDA_VISIBLE_DEVICES to the number of another one, or stop that worker.',
    );
  }
}

const PATIENCE_MS = 10_000;
const PAUSE_MS = 250;
const ANSWER_MS = 2_000;

/**
 * Locks a card for this worker until the process ends, against other workers with the same DATA_DIR, also in other
 * containers. A socket is the lock: the kernel closes it with its process, however that ends, and a file that is left
 * behind refuses connections.
 *
 * @returns releases the card
 * @throws CardInUseError
 */
export async function lockCard({
  dataDir,
  uuid,
  workerName,
  patienceMs = PATIENCE_MS,
}: CardLockOptions): Promise<() => Promise<void>> {
  const folder = path.join(dataDir, 'machines');
  await mkdir(folder, { recursive: true });
  // A number, which stays open with the card; Node would close a FileHandle that nothing refers to.
  const descriptor = openSync(folder, 'r');
  // The address of a socket has 107 bytes at most, which a data folder may exceed: the descriptor stands for it.
  const address = `/proc/self/fd/${descriptor}/${uuid.replace(/[^A-Za-z0-9-]/g, '')}.sock`;
  const token = `${randomUUID()} ${workerName}`;
  const deadline = Date.now() + patienceMs;
  try {
    for (;;) {
      const server = await listenAt(address, token);
      if (server !== null && (await holderAt(address)) === token) {
        return async () => {
          await unlink(address).catch(() => {});
          await new Promise((resolve) => server.close(resolve));
          closeSync(descriptor);
        };
      }
      server?.close();
      const holder = await holderAt(address);
      // Left behind by a process that has ended. Two that find it at once see by its token who was last.
      if (holder === null) await unlink(address).catch(() => {});
      else if (Date.now() >= deadline) throw new CardInUseError(uuid, holder.slice(holder.indexOf(' ') + 1));
      await sleep(PAUSE_MS * (0.5 + Math.random()));
    }
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** @returns null where the address is taken */
async function listenAt(address: string, token: string): Promise<Server | null> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end(token);
  });
  server.unref();
  return await new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(null) : reject(error),
    );
    server.listen({ path: address, readableAll: true, writableAll: true }, () => resolve(server));
  });
}

/** The answer of the process at the address; null where none answers. */
async function holderAt(address: string): Promise<string | null> {
  return await new Promise((resolve) => {
    const socket = connect(address);
    let text = '';
    socket.setEncoding('utf8');
    // It lives, and is busy or stopped.
    socket.setTimeout(ANSWER_MS, () => {
      resolve('? (it does not answer)');
      socket.destroy();
    });
    socket.on('data', (part: string) => {
      text += part;
    });
    socket.on('end', () => resolve(text));
    socket.on('error', () => resolve(null));
  });
}
