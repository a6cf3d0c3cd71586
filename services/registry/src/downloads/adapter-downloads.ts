import type { Readable } from 'node:stream';
import { type AdapterFile, ProductError } from '@lorasmith/contracts';
import type { FileSegment } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import type { AdapterLibrary } from '../adapters/adapter-library.js';
import type { MergedModels } from '../merging/merged-models.js';
import type { DownloadEvent } from '../metrics/registry-metrics.js';
import type { Download } from './answer-download.js';
import { type BundleContent, type DownloadContent, fileContent, tarContent } from './bundle-downloads.js';
import { locateParts, openParts } from './download-parts.js';
import { FileAnswerStream } from './file-answer.js';

export interface AdapterDownloadsOptions {
  library: Pick<AdapterLibrary, 'check'>;
  adapters: BundleStore;
  merged: BundleStore;
  models: Pick<MergedModels, 'acquire'>;
  /** The data folder, which an api may share. */
  dataDir: string;
  /** Whether single files of adapters are downloaded from the store itself, if it is on the network. */
  redirectDownloads: boolean;
}

/** How long a download may start at the address of a redirection. */
const REDIRECTION_SECONDS = 60;

export interface WantedDownload {
  id: string;
  weights?: DownloadEvent['weights'] | undefined;
  /** All files as a tar, the one safetensors file, or the file of a name. */
  what: 'tar' | 'safetensors' | { name: string };
  /** Called when its bytes, or the places where they are, are about to be sent. */
  onStarted?: (event: DownloadEvent) => void;
}

/** Downloads of adapters and of the models merged with them. */
export class AdapterDownloads {
  readonly #options: AdapterDownloadsOptions;
  /** Answers whose files are being read by the api. */
  readonly #reading = new Set<FileAnswerStream>();

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
    const { bundle, origin, createdAt, release } = await this.#acquire(id, weights);
    let isStreaming = false;
    /** Keeps a merged model until the stream is closed. */
    const streamed = <Stream extends Readable>(stream: Stream): Stream => {
      isStreaming = true;
      return stream.once('close', release);
    };
    const started = (bytes: number) => {
      onStarted?.({ adapter: id, job: origin.kind === 'imported' ? null : origin.job, weights, bytes });
    };
    try {
      const { store } = bundle;
      const content = contentOf(what, bundle, createdAt, weights === 'merged' ? `${id}-merged.tar` : `${id}.tar`);
      return await answer({
        ...content,
        open: async (range) => {
          started(range.end - range.start + 1);
          return streamed(await openParts(store, id, content.parts(range)));
        },
        openFileAnswer: async (range) => {
          const segments = await locateParts(store, id, content.parts(range), this.#options.dataDir);
          if (segments === null) return null;
          started(range.end - range.start + 1);
          return streamed(this.#fileAnswer(segments, weights));
        },
        redirection: async () => {
          if (!this.#options.redirectDownloads || what === 'tar') return null;
          const { contentType, fileName, totalBytes } = content;
          const file = { seconds: REDIRECTION_SECONDS, contentType, fileName };
          const url = await store.temporaryUrl(id, fileName, file);
          if (url !== null) started(totalBytes);
          return url;
        },
      });
    } finally {
      if (!isStreaming) release();
    }
  }

  /** Ends the answers whose files are being read: the api has opened them, so the downloads continue. */
  close(): void {
    for (const answer of this.#reading) answer.end();
  }

  #fileAnswer(segments: FileSegment[], weights: DownloadEvent['weights']): FileAnswerStream {
    const answer = new FileAnswerStream(segments);
    // Nothing is kept for an adapter: it is not evicted, and one that is deleted can be read by whoever has opened it.
    if (weights === 'adapter') answer.end();
    else this.#reading.add(answer.once('close', () => this.#reading.delete(answer)));
    return answer;
  }

  /** The files of an adapter, or of its merged model. @throws as {@link answer} */
  async files(id: string, weights: DownloadEvent['weights'] = 'adapter'): Promise<readonly AdapterFile[]> {
    const { bundle, release } = await this.#acquire(id, weights);
    release();
    return bundle.files;
  }

  async #acquire(id: string, weights: DownloadEvent['weights']) {
    const { library, adapters, merged, models } = this.#options;
    const adapter = await library.check(id);
    const { origin, created_at } = adapter.manifest;
    const of = { origin, createdAt: new Date(created_at) };
    if (weights === 'adapter') return { ...of, bundle: { store: adapters, ...adapter }, release: () => {} };
    const { files, release } = await models.acquire(adapter);
    return { ...of, bundle: { store: merged, id, files }, release };
  }
}

function contentOf(
  what: WantedDownload['what'],
  bundle: BundleContent,
  createdAt: Date,
  tarName: string,
): DownloadContent {
  if (what === 'tar') return tarContent(bundle.files, createdAt, tarName);
  return fileContent(what === 'safetensors' ? weightsFile(bundle) : namedFile(bundle, what.name));
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
