import { mkdir, open, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Adapter, type Dataset, ProductError } from '@lorasmith/contracts';
import { tarOfAdapter } from './adapter-tar.js';
import {
  type AdapterSource,
  clientOver,
  type ImportAdapterOptions,
  type UploadOptions,
  type UploadSource,
} from './client.js';
import { checkDownloadedFiles } from './downloaded-files.js';
import { createHttpTransport, type HttpTransportOptions } from './http-transport.js';
import { type DownloadOptions, downloadToFile } from './resumable-download.js';
import { refuseExisting, unpackFolder } from './unpack-folder.js';

/** A tar file, or the folder that is in it. */
export type DownloadDestination = { file: string } | { folder: string };

export interface DownloadAdapterOptions extends DownloadOptions {
  /** `adapter`: the PEFT folder. `merged`: the whole model with the adapter in it. @defaultValue 'adapter' */
  weights?: 'adapter' | 'merged' | undefined;
  /** Replace what is at the destination; otherwise that is refused. @defaultValue false */
  overwrite?: boolean | undefined;
}

/** The client of Node. */
export type Client = ReturnType<typeof createClient>;

/** {@link clientOver} HTTP, with uploads from this disk and downloads to it. */
export function createClient(options: HttpTransportOptions) {
  const transport = createHttpTransport(options);
  const client = clientOver(transport);

  /** The name of a dataset is by default that of its file. */
  async function uploadDataset(source: UploadSource | { file: string }, call: UploadOptions = {}): Promise<Dataset> {
    if (!('file' in source)) return await client.uploadDataset(source, call);
    const chunks = await openFile(source.file);
    return await client.uploadDataset({ chunks }, { ...call, name: call.name ?? basename(source.file) });
  }

  /** As in {@link clientOver}; from a tar file or a PEFT folder, too. */
  async function importAdapter(
    source: AdapterSource | { file: string } | { folder: string },
    call: ImportAdapterOptions = {},
  ): Promise<Adapter> {
    if ('file' in source) return await client.importAdapter({ chunks: await openFile(source.file) }, call);
    if ('folder' in source) return await client.importAdapter({ chunks: await tarOfAdapter(source.folder) }, call);
    return await client.importAdapter(source, call);
  }

  /**
   * Downloads an adapter, or the model merged with it, as a tar file or unpacked. Continues an earlier download that was
   * interrupted; the destination appears complete or not at all.
   *
   * @throws ProductError `conflict` when the destination exists; `invalid_adapter` when the download is damaged
   */
  async function downloadAdapter(
    id: string,
    destination: DownloadDestination,
    call: DownloadAdapterOptions = {},
  ): Promise<void> {
    const { weights = 'adapter', overwrite = false } = call;
    const target = 'file' in destination ? destination.file : destination.folder;
    await refuseExisting(target, overwrite);
    await mkdir(dirname(target), { recursive: true });
    const path = `/adapters/${encodeURIComponent(id)}`;
    const query: Record<string, string> = weights === 'merged' ? { weights } : {};
    if ('file' in destination) return await downloadToFile(transport, { path, query }, target, call);

    const tarFile = join(dirname(target), `.${basename(target)}.${id}.tar`);
    await downloadToFile(transport, { path, query }, tarFile, call);
    try {
      const expected = weights === 'adapter' ? await client.adapterFiles(id, call) : [];
      await unpackFolder(tarFile, target, { overwrite, check: (folder) => checkDownloadedFiles(folder, expected) });
    } finally {
      await rm(tarFile, { force: true });
    }
  }

  return { ...client, uploadDataset, importAdapter, downloadAdapter };
}

async function openFile(path: string): Promise<AsyncIterable<Uint8Array>> {
  const file = await open(path).catch((cause: Error) => {
    throw new ProductError('invalid_request', `Cannot read ${path}: ${cause.message}`, { param: 'file', cause });
  });
  return file.createReadStream();
}
