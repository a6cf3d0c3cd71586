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

/** A tar file, or a folder to unpack it into. */
export type DownloadDestination = { file: string } | { folder: string };

export interface DownloadAdapterOptions extends DownloadOptions {
  /** `adapter`: the PEFT folder. `merged`: the complete model with the adapter merged in. @defaultValue 'adapter' */
  weights?: 'adapter' | 'merged' | undefined;
  /** Whether to replace an existing destination. @defaultValue false */
  overwrite?: boolean | undefined;
}

/** The client for Node. */
export type Client = ReturnType<typeof createClient>;

/** Like {@link clientOver}, and also uploads files from the local disk and downloads to it. */
export function createClient(options: HttpTransportOptions) {
  const transport = createHttpTransport(options);
  const client = clientOver(transport);

  /** By default, a dataset has the name of its file. */
  async function uploadDataset(source: UploadSource | { file: string }, call: UploadOptions = {}): Promise<Dataset> {
    if (!('file' in source)) return await client.uploadDataset(source, call);
    const chunks = await openFile(source.file);
    return await client.uploadDataset({ chunks }, { ...call, name: call.name ?? basename(source.file) });
  }

  /** As in {@link clientOver}, and also from a tar file or a PEFT folder. */
  async function importAdapter(
    source: AdapterSource | { file: string } | { folder: string },
    call: ImportAdapterOptions = {},
  ): Promise<Adapter> {
    if ('file' in source) return await client.importAdapter({ chunks: await openFile(source.file) }, call);
    if ('folder' in source) return await client.importAdapter({ chunks: await tarOfAdapter(source.folder) }, call);
    return await client.importAdapter(source, call);
  }

  /**
   * Downloads an adapter, or the model merged with it, as a tar file or unpacked. Continues an interrupted download. The
   * destination is never visible incomplete.
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
