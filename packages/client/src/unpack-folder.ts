import { mkdir, mkdtemp, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { extract } from 'tar';

export interface UnpackOptions {
  /** Replace the folder if it exists. @defaultValue false */
  overwrite?: boolean;
  /** Checks the unpacked folder before it is visible at its destination. Throws to refuse it. */
  check?: (folder: string) => Promise<void>;
}

/**
 * Unpacks a plain tar into `folder`, which is never visible incomplete. Only files and folders are accepted.
 *
 * @throws ProductError `conflict` when the folder exists and `overwrite` is not set; `invalid_adapter` when the file is
 * not a plain tar, or contains links, devices, or names that lead out of the folder
 */
export async function unpackFolder(tarFile: string, folder: string, options: UnpackOptions = {}): Promise<void> {
  const target = resolve(folder);
  await refuseExisting(target, options.overwrite ?? false);
  await checkPlainTar(tarFile);
  const staging = await mkdtemp(join(dirname(target), `.${basename(target)}.`));
  // mkdtemp makes its folder private. A folder inside it has ordinary permissions.
  const content = join(staging, 'content');
  try {
    await mkdir(content);
    await unpack(tarFile, content);
    await options.check?.(content);
    await syncFiles(content);
    if (options.overwrite) await rename(target, join(staging, 'replaced')).catch(ignoreMissing);
    await rename(content, target);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** @throws ProductError `conflict` when `folder` exists */
export async function refuseExisting(folder: string, overwrite: boolean): Promise<void> {
  if (overwrite) return;
  const found = await stat(folder).then(
    () => true,
    () => false,
  );
  if (found) throw new ProductError('conflict', `${folder} exists. Choose another destination, or overwrite it.`);
}

async function unpack(tarFile: string, folder: string): Promise<void> {
  let refused: string | undefined;
  const filter = (path: string, entry: object) => {
    const type = 'type' in entry ? String(entry.type) : '';
    const safe = !isAbsolute(path) && !path.split(/[/\\]/).includes('..');
    if (!safe || !['File', 'OldFile', 'ContiguousFile', 'Directory'].includes(type)) refused ??= `${path} (${type})`;
    return refused === undefined;
  };
  try {
    await extract({ file: tarFile, cwd: folder, filter, strict: true, preserveOwner: false, noMtime: true });
  } catch (cause) {
    // A local error such as a full disk, not one of the tar.
    if (typeof (cause as NodeJS.ErrnoException).syscall === 'string') throw cause;
    throw new ProductError('invalid_adapter', `The download cannot be unpacked: ${(cause as Error).message}`, {
      cause,
    });
  }
  if (refused !== undefined)
    throw new ProductError('invalid_adapter', `The download contains ${refused}, which is not allowed.`);
}

/** The library would also unpack compressed tars, whose unpacked size has no limit. */
async function checkPlainTar(tarFile: string): Promise<void> {
  const handle = await open(tarFile, 'r');
  try {
    const magic = Buffer.alloc(5);
    await handle.read(magic, 0, 5, 257);
    if (magic.toString('latin1') !== 'ustar') {
      throw new ProductError('invalid_adapter', 'The download is not a tar file.');
    }
  } finally {
    await handle.close();
  }
}

async function syncFiles(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const handle = await open(join(entry.parentPath, entry.name), 'r');
    await handle.sync().finally(() => handle.close());
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
