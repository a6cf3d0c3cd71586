import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ADAPTER_FILES, type Adapter, type AdapterFile, type Dataset, ProductError } from '@lorasmith/contracts';
import { create } from 'tar';
import {
  type AdapterSource,
  clientOver,
  type ImportAdapterOptions,
  type UploadOptions,
  type UploadSource,
} from './client.js';
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

const PEFT_FILES = [ADAPTER_FILES.config, ADAPTER_FILES.weights];

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

/**
 * Packs the two files of a PEFT folder into a plain tar. No other file of the folder is sent.
 * @throws ProductError `invalid_request` when one is missing
 */
async function tarOfAdapter(folder: string): Promise<AsyncIterable<Uint8Array>> {
  for (const name of PEFT_FILES) {
    const found = await stat(join(folder, name)).catch(() => null);
    if (found?.isFile()) continue;
    const message = `${folder} has no ${name}; it must be a PEFT folder with safetensors weights.`;
    throw new ProductError('invalid_request', message, { param: 'folder' });
  }
  return create({ cwd: folder, portable: true }, PEFT_FILES) as AsyncIterable<Uint8Array>;
}

/**
 * Compares the files of a downloaded folder with the digests of the registry.
 *
 * @throws ProductError `invalid_adapter` naming the first file that is missing or differs
 */
async function checkDownloadedFiles(folder: string, expected: AdapterFile[]): Promise<void> {
  for (const { name, sha256 } of expected) {
    const hash = createHash('sha256');
    await pipeline(createReadStream(join(folder, name)), hash).catch((cause: unknown) => {
      throw new ProductError('invalid_adapter', `${name} is missing from the download.`, { cause });
    });
    if (hash.digest('hex') !== sha256) {
      throw new ProductError(
        'invalid_adapter',
        `${name} is damaged: its sha256 differs from the registry's. Download it again.`,
      );
    }
  }
}
