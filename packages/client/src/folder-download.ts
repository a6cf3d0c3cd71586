import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type AdapterFile, ProductError } from '@lorasmith/contracts';
import type { HttpTransport } from './http-transport.js';
import { type DownloadOptions, digestOf, downloadToFile } from './resumable-download.js';

export interface FolderDownloadOptions extends DownloadOptions {
  id: string;
  /** The query of the request, such as `weights=merged`. */
  query: Record<string, string>;
  /** Whether to replace an existing folder. */
  overwrite: boolean;
}

/** How long the list of a merged model's files is asked for while a proxy gives up before the merge ends. */
const MERGE_TIMEOUT_MS = 3_600_000;
const FILE_NAME = /^\w[\w.-]{0,254}$/;

/**
 * Downloads the files of an adapter, or of its merged model, one by one into `folder`, which is never visible incomplete. They are
 * received in a hidden folder beside it, from which a later call continues.
 *
 * @throws ProductError `invalid_adapter` when a file differs from the digest of the registry; as {@link downloadToFile}
 */
export async function downloadFolder(
  transport: HttpTransport,
  folder: string,
  { id, query, overwrite, onProgress, ...options }: FolderDownloadOptions,
): Promise<void> {
  const target = resolve(folder);
  const path = `/adapters/${encodeURIComponent(id)}/files`;
  const files = await listFiles(transport, { path, query }, options.signal);

  const receiving = join(dirname(target), `.${basename(target)}.${[id, ...Object.values(query)].join('.')}`);
  await mkdir(receiving, { recursive: true });
  const totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let doneBytes = 0;
  for (const { name, bytes, sha256 } of files) {
    const file = join(receiving, name);
    if (!(await exists(file)) || (await digestOf(file)) !== sha256) {
      await downloadToFile(transport, { path: `${path}/${name}`, query }, file, {
        ...options,
        onProgress: ({ receivedBytes }) => onProgress?.({ receivedBytes: doneBytes + receivedBytes, totalBytes }),
        sha256,
      });
    }
    doneBytes += bytes;
  }
  await removeOthers(receiving, files);
  await replace(target, receiving, overwrite);
}

/** @throws ProductError `conflict` when `target` exists */
export async function refuseExisting(target: string, overwrite: boolean): Promise<void> {
  if (overwrite || !(await exists(target))) return;
  throw new ProductError('conflict', `${target} exists. Choose another destination, or overwrite it.`);
}

async function listFiles(
  transport: HttpTransport,
  source: { path: string; query: Record<string, string> },
  signal: AbortSignal | undefined,
): Promise<AdapterFile[]> {
  const { data } = await transport.json<{ data: AdapterFile[] }>({
    method: 'GET',
    ...source,
    signal,
    // The registry first computes a merged model.
    timeoutMs: null,
    retryTimeoutsForMs: MERGE_TIMEOUT_MS,
  });
  for (const { name } of data) {
    if (FILE_NAME.test(name)) continue;
    throw new ProductError('invalid_adapter', `The download contains ${JSON.stringify(name)}, which is not allowed.`);
  }
  return data;
}

/** Removes what an earlier call received that is not part of the adapter any more. */
async function removeOthers(folder: string, files: readonly AdapterFile[]): Promise<void> {
  const names = new Set(files.map(({ name }) => name));
  for (const name of await readdir(folder)) {
    if (!names.has(name)) await rm(join(folder, name), { recursive: true });
  }
}

async function replace(target: string, folder: string, overwrite: boolean): Promise<void> {
  const replaced = `${folder}.replaced`;
  await rm(replaced, { recursive: true, force: true });
  if (overwrite && (await exists(target))) await rename(target, replaced);
  await rename(folder, target);
  await rm(replaced, { recursive: true, force: true });
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
