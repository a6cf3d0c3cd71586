import { type AdapterFile, ProductError } from '@lorasmith/contracts';
import type { BundleStore } from '@lorasmith/storage';
import type { AdapterLibrary } from '../adapters/adapter-library.js';
import type { MergedModels } from '../merging/merged-models.js';
import type { DownloadEvent } from '../metrics/registry-metrics.js';
import type { Download } from './answer-download.js';
import { type BundleContent, fileDownload, tarDownload } from './bundle-downloads.js';

export interface AdapterDownloadsOptions {
  library: Pick<AdapterLibrary, 'check'>;
  adapters: BundleStore;
  merged: BundleStore;
  models: Pick<MergedModels, 'acquire'>;
}

export interface WantedDownload {
  id: string;
  weights?: DownloadEvent['weights'] | undefined;
  /** All files as a tar, the one safetensors file, or the file of a name. */
  what: 'tar' | 'safetensors' | { name: string };
  /** Called when the first byte is read. */
  onStarted?: (event: DownloadEvent) => void;
}

/** Downloads of adapters and of the models merged with them. */
export class AdapterDownloads {
  readonly #options: AdapterDownloadsOptions;

  constructor(options: AdapterDownloadsOptions) {
    this.#options = options;
  }

  /**
   * Prepares a download and answers with it. A merged model stays on disk until its last byte is read.
   * @throws ProductError `adapter_not_found`, `invalid_adapter`, `not_found` for a file, `conflict`, and what merging and
   * `answer` throw
   */
  async answer<Answer>(
    { id, weights = 'adapter', what, onStarted }: WantedDownload,
    answer: (download: Download) => Promise<Answer>,
  ): Promise<Answer> {
    const { content, origin, createdAt, release } = await this.#acquire(id, weights);
    let isStreaming = false;
    try {
      const download = downloadOf(what, content, createdAt, weights === 'merged' ? `${id}-merged.tar` : `${id}.tar`);
      return await answer({
        ...download,
        async open(range) {
          const job = origin.kind === 'imported' ? null : origin.job;
          onStarted?.({ adapter: id, job, weights, bytes: range.end - range.start + 1 });
          const stream = await download.open(range);
          isStreaming = true;
          return stream.once('close', release);
        },
      });
    } finally {
      if (!isStreaming) release();
    }
  }

  /** The files of an adapter, or of its merged model. @throws as {@link answer} */
  async files(id: string, weights: DownloadEvent['weights'] = 'adapter'): Promise<readonly AdapterFile[]> {
    const { content, release } = await this.#acquire(id, weights);
    release();
    return content.files;
  }

  async #acquire(id: string, weights: DownloadEvent['weights']) {
    const { library, adapters, merged, models } = this.#options;
    const adapter = await library.check(id);
    const { origin, created_at } = adapter.manifest;
    const of = { origin, createdAt: new Date(created_at) };
    if (weights === 'adapter') return { ...of, content: { store: adapters, ...adapter }, release: () => {} };
    const { files, release } = await models.acquire(adapter);
    return { ...of, content: { store: merged, id, files }, release };
  }
}

function downloadOf(what: WantedDownload['what'], content: BundleContent, createdAt: Date, tarName: string): Download {
  if (what === 'tar') return tarDownload(content, createdAt, tarName);
  return fileDownload(content, what === 'safetensors' ? weightsFile(content) : namedFile(content, what.name));
}

function namedFile({ id, files }: BundleContent, name: string): AdapterFile {
  const file = files.find((candidate) => candidate.name === name);
  if (file !== undefined) return file;
  const existing = files.map((candidate) => candidate.name).join(', ');
  const message = `${id} has no file ${JSON.stringify(name.slice(0, 100))}. Its files are ${existing}.`;
  throw new ProductError('not_found', message);
}

function weightsFile({ id, files }: BundleContent): AdapterFile {
  const [first, ...more] = files.filter(({ name }) => name.endsWith('.safetensors'));
  if (first === undefined) throw new ProductError('invalid_adapter', `${id} has no safetensors file.`);
  if (more.length > 0) {
    const message = `The merged model has ${more.length + 1} weight files. Download the tar, or each file from /adapters/${id}/files/NAME?weights=merged.`;
    throw new ProductError('conflict', message, { param: 'format' });
  }
  return first;
}
