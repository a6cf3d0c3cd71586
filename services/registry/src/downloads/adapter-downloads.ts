import type { Readable } from 'node:stream';
import { type AdapterFile, jobOrigin, ProductError } from '@lorasmith/contracts';
import { isExpertParameter } from '@lorasmith/model-folder';
import type { FileSegment } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import type { AdapterLibrary } from '../adapters/adapter-library.js';
import type { DerivedForm } from '../merging/derived-form.js';
import type { MergedModels } from '../merging/merged-models.js';
import type { DownloadEvent } from '../registry-metrics.js';
import type { Download } from './answer-download.js';
import {
  type BundleContent,
  type DownloadContent,
  FileAnswerStream,
  fileContent,
  isWeightsFile,
  locateParts,
  openParts,
  tarContent,
  withTexts,
} from './download-content.js';
import { nameBaseModel } from './named-base.js';

export interface AdapterDownloadsOptions {
  library: Pick<AdapterLibrary, 'check'>;
  adapters: BundleStore;
  merged: BundleStore;
  models: Pick<MergedModels, 'acquire'>;
  /** The data folder, which an api may share. */
  dataDir: string;
  /** True if single files of adapters are downloaded from the store itself, if it is on the network. */
  redirectDownloads: boolean;
}

/** The time in which a download may start at the address of a redirection. */
const REDIRECTION_SECONDS = 60;

export interface WantedDownload {
  id: string;
  /** Computed from the adapter; null: the adapter itself. @defaultValue null */
  form?: DerivedForm | null;
  /** The repository of the hub that its texts name as the base model. @defaultValue null: as they are stored */
  baseModel?: string | null;
  /** All files as a tar, the one weights file, or the file of a name. */
  what: 'tar' | 'weights' | { name: string };
  /** Called when its bytes, or their locations, are about to be sent. */
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
    { id, form = null, baseModel = null, what, onStarted }: WantedDownload,
    answer: (download: Download) => Promise<Answer>,
  ): Promise<Answer> {
    const { bundle, manifest, release } = await this.#acquire(id, form);
    const { origin, created_at } = manifest;
    const weights = weightsOf(form);
    let isStreaming = false;
    /** Keeps a merged model until the stream is closed. */
    const streamed = <Stream extends Readable>(stream: Stream): Stream => {
      isStreaming = true;
      return stream.once('close', release);
    };
    const started = (bytes: number) => {
      onStarted?.({ adapter: id, job: jobOrigin(origin)?.job ?? null, weights, bytes });
    };
    try {
      const { store } = bundle;
      const { files, texts } = await nameBaseModel(bundle, manifest, baseModel);
      const tarName = `${id}${tarSuffixOf(form)}.tar`;
      const content = withTexts(contentOf(what, { ...bundle, files }, new Date(created_at), tarName), texts);
      return await answer({
        ...content,
        open: async (range) => {
          started(range.end - range.start + 1);
          return streamed(await openParts(store, bundle.id, content.parts(range)));
        },
        openFileAnswer: async (range) => {
          const segments = await locateParts(store, bundle.id, content.parts(range), this.#options.dataDir);
          if (segments === null) return null;
          started(range.end - range.start + 1);
          return streamed(this.#fileAnswer(segments, form));
        },
        redirection: async () => {
          const { contentType, fileName, totalBytes } = content;
          if (!this.#options.redirectDownloads || what === 'tar' || texts.has(fileName)) return null;
          const file = { seconds: REDIRECTION_SECONDS, contentType, fileName };
          const url = await store.temporaryUrl(bundle.id, fileName, file);
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

  #fileAnswer(segments: FileSegment[], form: DerivedForm | null): FileAnswerStream {
    const answer = new FileAnswerStream(segments);
    // Nothing is kept for an adapter: it is not evicted, and a deleted one can be read by downloads that have opened it.
    if (form === null) answer.end();
    else this.#reading.add(answer.once('close', () => this.#reading.delete(answer)));
    return answer;
  }

  /** The files of an adapter, or of what is computed from it. @throws as {@link answer} */
  async files({ id, form = null, baseModel = null }: Omit<WantedDownload, 'what'>): Promise<readonly AdapterFile[]> {
    const { bundle, manifest, release } = await this.#acquire(id, form);
    try {
      return (await nameBaseModel(bundle, manifest, baseModel)).files;
    } finally {
      release();
    }
  }

  async #acquire(id: string, form: DerivedForm | null) {
    const { library, adapters, merged, models } = this.#options;
    const adapter = await library.check(id);
    const { manifest } = adapter;
    if (form === null || (form.format === 'per-expert' && !manifest.lora.modules.some(isExpertParameter)))
      return { manifest, bundle: { store: adapters, ...adapter }, release: () => {} };
    const { release, ...lease } = await models.acquire(adapter, form);
    return { manifest, bundle: { store: merged, ...lease }, release };
  }
}

function contentOf(
  what: WantedDownload['what'],
  bundle: BundleContent,
  createdAt: Date,
  tarName: string,
): DownloadContent {
  if (what === 'tar') return tarContent(bundle.files, createdAt, tarName);
  return fileContent(what === 'weights' ? weightsFile(bundle) : namedFile(bundle, what.name));
}

/** The kind of weights, for metrics. */
function weightsOf(form: DerivedForm | null): DownloadEvent['weights'] {
  if (form === null || form.format === 'per-expert') return 'adapter';
  return form.format === 'gguf' ? 'gguf' : 'merged';
}

function tarSuffixOf(form: DerivedForm | null): string {
  if (form === null) return '';
  return form.format === 'per-expert' ? '-per-expert' : '-merged';
}

function namedFile({ id, files }: BundleContent, name: string): AdapterFile {
  const file = files.find((candidate) => candidate.name === name);
  if (file !== undefined) return file;
  const existing = files.map((candidate) => candidate.name).join(', ');
  const message = `${id} has no file ${JSON.stringify(name.slice(0, 100))}. Its files are ${existing}.`;
  throw new ProductError('not_found', message);
}

function weightsFile({ id, files }: BundleContent): AdapterFile {
  const [first, ...more] = files.filter(({ name }) => isWeightsFile(name));
  if (first === undefined) throw new ProductError('invalid_adapter', `${id} has no file of weights.`);
  if (more.length > 0) {
    const message = `The merged model has ${more.length + 1} weight files. Download the tar, or each file from /adapters/${id}/files/NAME?weights=merged.`;
    throw new ProductError('conflict', message, { param: 'format' });
  }
  return first;
}
