import { mkdir, open, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ADAPTER_FILES, type Adapter, type Dataset, type GgufTensorType, ProductError } from '@lorasmith/contracts';
import { create } from 'tar/create';
import type { UploadOptions, UploadSource } from './calls.js';
import { type AdapterSource, clientOver, type ImportAdapterOptions } from './client.js';
import { createHttpTransport, type HttpTransportOptions } from './http-transport.js';
import type { DatasetToPull, PullDatasetOptions, PulledDataset } from './hub-dataset.js';
import { type DownloadOptions, downloadFolder, downloadToFile, refuseExisting } from './resumable-download.js';
import {
  type ContinuedSession,
  createTrainingSession,
  type NewSession,
  type TrainingSession,
} from './sessions/training-session.js';

/** A single file (a tar, or the GGUF file), or a folder for the files. */
export type DownloadDestination = { file: string } | { folder: string };

export interface DownloadAdapterOptions extends DownloadOptions {
  /** `adapter`: the PEFT folder. `merged`: the complete model with the adapter merged in. @defaultValue 'adapter' */
  weights?: 'adapter' | 'merged' | undefined;
  /** `per-expert`: an adapter of experts with layers of each expert, for vLLM and llama.cpp. @defaultValue 'peft' */
  layout?: 'peft' | 'per-expert' | undefined;
  /** `gguf`: for llama.cpp and Ollama. @defaultValue 'safetensors' */
  format?: 'safetensors' | 'gguf' | undefined;
  /** The type of the matrices, with `gguf`. @defaultValue 'f32' for an adapter, 'f16' for a merged model */
  type?: GgufTensorType | undefined;
  /** The repository of the hub that the config and the card name as the base model. @defaultValue as they are stored */
  base_model?: string | undefined;
  /** True to replace an existing destination. @defaultValue false */
  overwrite?: boolean | undefined;
}

const PEFT_FILES = [ADAPTER_FILES.config, ADAPTER_FILES.weights];

/** The client for Node. */
export type Client = ReturnType<typeof createClient>;

/** The client of {@link clientOver} that also uploads files from the local disk and downloads to it. */
export function createClient(options: HttpTransportOptions) {
  const transport = createHttpTransport(options);
  const client = clientOver(transport);

  /** Uploads a dataset, which has the name of its file by default. */
  async function uploadDataset(source: UploadSource | { file: string }, call: UploadOptions = {}): Promise<Dataset> {
    if (!('file' in source)) return await client.uploadDataset(source, call);
    const chunks = await openFile(source.file);
    return await client.uploadDataset({ chunks }, { ...call, name: call.name ?? basename(source.file) });
  }

  /**
   * Fetches the rows of a dataset of the Hugging Face hub to this machine, checks the digests of their files, and uploads them. Where the dataset has
   * no note, it gets one that says where it comes from.
   *
   * @throws ProductError `invalid_request`, with the files of the repository, if it is not clear which are meant; `hub_access_denied`,
   *   `hub_dataset_not_found`, `hub_file_corrupt`, `hub_offline`, `hub_unavailable`; `invalid_dataset`, `body_too_large`, `storage_full`; `ApiError` as
   *   uploadDataset
   */
  async function pullDataset(wanted: DatasetToPull, call: PullDatasetOptions = {}): Promise<PulledDataset> {
    // The hub's client is loaded only where something is pulled.
    const { pullDataset: pull } = await import('./hub-dataset.js');
    return await pull(client, wanted, call);
  }

  /** Imports as {@link clientOver} does, and also from a tar file or a PEFT folder. */
  async function importAdapter(
    source: AdapterSource | { file: string } | { folder: string },
    call: ImportAdapterOptions = {},
  ): Promise<Adapter> {
    if ('file' in source) return await client.importAdapter({ chunks: await openFile(source.file) }, call);
    if ('folder' in source) return await client.importAdapter({ chunks: await tarOfAdapter(source.folder) }, call);
    return await client.importAdapter(source, call);
  }

  /**
   * Downloads an adapter, or the model merged with it, as a folder, a tar file or a GGUF file. The folder's files are compared with the digests
   * of the registry. Continues an interrupted download. The destination is never visible incomplete.
   *
   * @param adapter - its id, or a name that points to it
   * @throws ProductError `conflict` when the destination exists; `invalid_adapter` when a file is damaged
   */
  async function downloadAdapter(
    adapter: string,
    destination: DownloadDestination,
    call: DownloadAdapterOptions = {},
  ): Promise<void> {
    const { overwrite = false, signal } = call;
    // A name may move while its files are fetched.
    const id = adapter.startsWith('ad_') ? adapter : (await client.getAdapter(adapter, { signal })).id;
    const target = 'file' in destination ? destination.file : destination.folder;
    await refuseExisting(target, overwrite);
    await mkdir(dirname(target), { recursive: true });
    if ('folder' in destination) {
      return await downloadFolder(transport, destination.folder, {
        ...call,
        id,
        query: downloadQuery(call),
        overwrite,
      });
    }
    const query = downloadQuery(call);
    await downloadToFile(transport, { path: `/adapters/${encodeURIComponent(id)}`, query }, destination.file, call);
  }

  return {
    ...client,
    ...{ uploadDataset, pullDataset, importAdapter, downloadAdapter },
    /** Opens a model that your own loop trains. @see createTrainingSession */
    createTrainingSession: (of: NewSession | ContinuedSession): Promise<TrainingSession> =>
      createTrainingSession(transport, of),
  };
}

function downloadQuery({ weights, layout, format, type, base_model }: DownloadAdapterOptions): Record<string, string> {
  return {
    ...(weights === 'merged' ? { weights } : {}),
    ...(layout === 'per-expert' ? { layout } : {}),
    ...(format === 'gguf' ? { format } : {}),
    ...(type === undefined ? {} : { type }),
    ...(base_model === undefined ? {} : { base_model }),
  };
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
