import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { bounded, type Dataset, HubRepository, HubRevision, ProductError, patternOf } from '@lorasmith/contracts';
import {
  type DownloadFolder,
  downloadFile,
  type HubFile,
  type HubSettings,
  type HubSubject,
  hubAddress,
  hubOfEnvironment,
  openHubRepository,
} from '@lorasmith/hub';
import { type ColumnChoice, parseColumnMapping } from '@lorasmith/row-files';
import type { Client, UploadOptions } from '../client.js';
import { rowLinesOf } from '../convert-dataset.js';
import type { DownloadProgress } from '../resumable-download.js';
import { chooseRowFiles, MAX_PULLED_BYTES } from './choose-row-files.js';

/** The rows that are pulled from the Hugging Face hub. */
export interface DatasetToPull {
  /** Its owner, a slash and its name. */
  repo: string;
  /** A branch, a tag or a commit. @defaultValue 'main' */
  revision?: string | undefined;
  /** @defaultValue 'train' */
  split?: string | undefined;
  /** The path of a file of the repository, or of a folder with the files of the split. @defaultValue the whole repository */
  file?: string | undefined;
}

export interface PullDatasetOptions extends Omit<UploadOptions, 'onProgress'> {
  /** The variables of the environment that say how the hub is reached: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`. @defaultValue none is set */
  environment?: Readonly<Record<string, string | undefined>> | undefined;
  /** Called with the bytes that have come from the hub, of all files. */
  onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Called with the bytes that were sent to the service. */
  onSent?: ((sentBytes: number) => void) | undefined;
}

export interface PulledDataset {
  dataset: Dataset;
  /** The commit whose files these are. */
  commit: string;
  /** Their paths in the repository. */
  files: string[];
}

/** Files that a note names. */
const MAX_NAMED = 10;

/** The work of `pullDataset` of the client. */
export async function pullDataset(
  client: Pick<Client, 'uploadDataset' | 'changeDataset'>,
  wanted: DatasetToPull,
  options: PullDatasetOptions,
): Promise<PulledDataset> {
  const { repo, revision = 'main', split = 'train', file } = wanted;
  const { environment = {}, columns, signal = new AbortController().signal } = options;
  requireForm(HubRepository, repo, 'repo', 'is no repository: OWNER/NAME');
  requireForm(HubRevision, revision, 'revision', 'is no branch, tag or commit');
  const mapping = columns === undefined ? undefined : parseColumnMapping(columns);
  const hub = hubOfEnvironment(environment);
  if (hub.offline) {
    const message = `HF_HUB_OFFLINE is set, so nothing is fetched from the hub. Unset it, or upload the file of ${repo}: lora datasets upload.`;
    throw new ProductError('hub_offline', message);
  }
  const subject: HubSubject = { kind: 'dataset', repo, revision };
  const repository = await openHubRepository(subject, hub, signal);
  const folder = await mkdtemp(join(tmpdir(), 'lorasmith-pull-'));
  try {
    const commit = await repository.commit();
    const files = chooseRowFiles(await repository.files(commit), { repo, revision, split, file });
    const staging = stagingIn(folder, files);
    const fetching = { hub, subject, repository, commit, folder: staging, signal };
    await fetchAll(files, (one, onProgress) => downloadFile(one, { ...fetching, onProgress }), options);
    const [only, ...others] = files.map(({ name }) => staging.pathOf(name));
    const upload = others.length === 0 ? only! : join(folder, 'rows.jsonl');
    if (others.length > 0) {
      const rows = bounded(rowsOf([only!, ...others], mapping ?? 'of-rows'), MAX_PULLED_BYTES, 'dataset');
      await pipeline(rows, createWriteStream(upload), { signal });
    }
    const dataset = await client.uploadDataset(
      { chunks: createReadStream(upload) },
      {
        name: options.name ?? repo.slice(repo.indexOf('/') + 1),
        columns,
        baseModel: options.baseModel,
        onProgress: options.onSent,
        signal,
      },
    );
    const names = files.map(({ name }) => name);
    if (dataset.note !== null) return { dataset, commit, files: names };
    const { note } = await client.changeDataset(
      dataset.id,
      { note: noteOf({ subject, hub, commit, names }) },
      { signal },
    );
    // The warnings are those of this upload.
    return { dataset: { ...dataset, note }, commit, files: names };
  } catch (error) {
    throw withoutSpace(error);
  } finally {
    await repository.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function fetchAll(
  files: readonly HubFile[],
  fetchFile: (file: HubFile, onProgress: (bytes: number) => void) => Promise<void>,
  { onProgress }: PullDatasetOptions,
): Promise<void> {
  const totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let doneBytes = 0;
  for (const file of files) {
    await fetchFile(file, (bytes) => onProgress?.({ receivedBytes: doneBytes + bytes, totalBytes }));
    doneBytes += file.bytes;
  }
}

/** The rows of files of one form, one after the other. */
async function* rowsOf(paths: readonly string[], columns: ColumnChoice): AsyncGenerator<Buffer> {
  for (const path of paths) {
    yield* rowLinesOf(path, columns);
    // The last line of a file may have no end.
    yield Buffer.from('\n');
  }
}

/** Files are received under numbers, since their paths are those of somebody else. */
function stagingIn(folder: string, files: readonly HubFile[]): DownloadFolder & { pathOf(name: string): string } {
  const pathOf = (name: string) => join(folder, String(files.findIndex((file) => file.name === name)));
  const partOf = (name: string) => `${pathOf(name)}.part`;
  return {
    pathOf,
    partOf,
    stateOf: async (name) => {
      const part = await stat(partOf(name)).catch(() => null);
      return { bytes: part?.size ?? 0, complete: false };
    },
    accept: (name) => rename(partOf(name), pathOf(name)),
  };
}

interface Origin {
  subject: HubSubject;
  hub: HubSettings;
  commit: string;
  names: readonly string[];
}

/** Says where a dataset comes from. */
function noteOf({ subject, hub, commit, names }: Origin): string {
  const more = names.length > MAX_NAMED ? [`and ${names.length - MAX_NAMED} more`] : [];
  const from = `From ${hubAddress(subject, hub)}, revision ${subject.revision}, commit ${commit}:`;
  return [from, ...names.slice(0, MAX_NAMED), ...more].join('\n');
}

function requireForm(schema: object, text: string, param: string, fault: string): void {
  if (new RegExp(patternOf(schema)!).test(text)) return;
  throw new ProductError('invalid_request', `${JSON.stringify(text)} ${fault}.`, { param });
}

/** The error for a disk without space; any other one as it is. */
function withoutSpace(error: unknown): unknown {
  if (!(error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')))
    return error;
  const message = `The disk of ${tmpdir()} is full. Free some space, or set TMPDIR to a folder with more of it, then pull it again.`;
  return new ProductError('storage_full', message, { cause: error });
}
