import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import {
  bounded,
  type Dataset,
  HubRepository,
  HubRevision,
  isPrintable,
  ProductError,
  patternOf,
} from '@lorasmith/contracts';
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
import type { UploadOptions } from './calls.js';
import type { Client } from './client.js';
import { rowLinesOf } from './convert-dataset.js';
import type { DownloadProgress } from './resumable-download.js';

/** The rows of a repository that are pulled. */
export interface WantedRows {
  repo: string;
  revision: string;
  split: string;
  /** The path of a file, or of a folder; undefined: the whole repository. */
  file: string | undefined;
}

const ROWS = /\.(?:jsonl?|ndjson|csv|tsv|parquet)(?:\.(?:gz|zst))?$/i;
/** JSON that tools of the hub write about a dataset. */
const ABOUT = /(?:^|\/)(?:dataset_infos?|dataset_dict|state)\.json$/;
const MAX_PATH_CHARACTERS = 300;
const MAX_LISTED = 20;
/** Ten times what a service stores of a dataset, unless it is set otherwise. */
export const MAX_PULLED_BYTES = 10 * 2 ** 30;
/** Limits, for docs/limits.md. */
export const pulledRowsLimits = {
  bytes: { value: MAX_PULLED_BYTES, unit: 'bytes', beyond: 'the pull is refused' },
};

/** `data/train-00000-of-00002-0123456789abcdef.parquet`, as tools of the hub write it. */
const SHARD = /^(.*)-(\d{5})-of-(\d{5})(?:-[0-9a-f]{16})?(\.[^/]*)$/;
/** `default/train/0000.parquet`, as the hub converts datasets itself. */
const CONVERTED_SHARD = /^(.*\/)(\d{4})(\.parquet)$/;
/** The ends of words in a path: a split may be a word with underscores, or follow one. */
const SEPARATORS = [/[^a-z0-9_]+/, /[^a-z0-9]+/];
const USUAL_SPLITS = ['train', 'training', 'validation', 'valid', 'val', 'dev', 'test', 'testing', 'eval'];

/** Files whose rows follow each other. */
interface RowFiles {
  name: string;
  files: { file: HubFile; shard: number }[];
  /** The number that there must be; null: their numbers say so. */
  count: number | null;
}

/**
 * The files of a split, in the order of their rows.
 * @throws ProductError `invalid_request`, with the files of the repository, if there are none or it is not clear which; `invalid_dataset` if some of
 *   them are missing; `body_too_large`
 */
export function chooseRowFiles(files: readonly HubFile[], wanted: WantedRows): HubFile[] {
  const { repo, revision, split, file } = wanted;
  const at = `${repo} at ${revision}`;
  const ofRows = files.filter(
    ({ name }) => ROWS.test(name) && !ABOUT.test(name) && name.length <= MAX_PATH_CHARACTERS && isPrintable(name),
  );
  if (ofRows.length === 0) {
    const message = `${at} has no JSONL, JSON, CSV or Parquet file. The hub converts most datasets to Parquet: try --revision refs/convert/parquet.`;
    throw refused(message);
  }
  const folder = file?.replace(/\/+$/, '');
  const named = ofRows.find(({ name }) => name === folder);
  if (named !== undefined) return within([named], at);
  const among = folder === undefined ? ofRows : ofRows.filter(({ name }) => name.startsWith(`${folder}/`));
  if (among.length === 0) {
    throw refused(`${at} has no file of rows ${JSON.stringify(file)}. It has ${listOf(ofRows)}.`);
  }
  const [found, ...others] = togetherIn(filesOfSplit(among, split));
  if (found === undefined) {
    const message = `${at} has no file of the split ${JSON.stringify(split)}. It has ${listOf(among)}. Name another split with --split, or a file with --file.`;
    throw refused(message);
  }
  if (others.length > 0) {
    const all = [found, ...others].flatMap((one) => one.files.map((shard) => shard.file));
    const message = `${at} has several files of the split ${JSON.stringify(split)}: ${listOf(all)}. Name one with --file, or its folder.`;
    throw refused(message);
  }
  return within(completeOf(found, at), at);
}

function filesOfSplit(files: readonly HubFile[], split: string): readonly HubFile[] {
  const word = split.toLowerCase();
  for (const separator of SEPARATORS) {
    for (const part of [nameOf, folderOf]) {
      const found = files.filter(({ name }) => part(name).toLowerCase().split(separator).includes(word));
      if (found.length > 0) return found;
    }
  }
  // A file that names no split is that of the training.
  return word === 'train' ? files.filter(({ name }) => !namesSplit(name)) : [];
}

function namesSplit(name: string): boolean {
  const words = name.toLowerCase().split(SEPARATORS[1]!);
  return USUAL_SPLITS.some((split) => words.includes(split));
}

const nameOf = (name: string) => name.slice(name.lastIndexOf('/') + 1);
const folderOf = (name: string) => name.slice(0, name.lastIndexOf('/') + 1);

/** The files, those together whose rows follow each other. */
function togetherIn(files: readonly HubFile[]): RowFiles[] {
  const found = new Map<string, RowFiles>();
  for (const file of files) {
    const { name, shard, count } = shardOf(file.name);
    const together = found.get(name) ?? { name, files: [], count };
    together.files.push({ file, shard });
    found.set(name, together);
  }
  return [...found.values()];
}

function shardOf(path: string): { name: string; shard: number; count: number | null } {
  const [, before = '', shard, count, ending = ''] = SHARD.exec(path) ?? [];
  if (shard !== undefined)
    return { name: `${before}-of-${count}${ending}`, shard: Number(shard), count: Number(count) };
  const [, folder = '', converted, parquet = ''] = CONVERTED_SHARD.exec(path) ?? [];
  if (converted !== undefined) return { name: `${folder}*${parquet}`, shard: Number(converted), count: null };
  return { name: path, shard: 0, count: 1 };
}

function completeOf({ name, files, count }: RowFiles, at: string): HubFile[] {
  const sorted = files.toSorted((one, other) => one.shard - other.shard);
  const isComplete = sorted.every(({ shard }, index) => shard === index) && (count === null || count === sorted.length);
  if (isComplete) return sorted.map(({ file }) => file);
  const message = `${at} lacks some of the files ${name}: it has ${sorted.length}${count === null ? '' : ` of ${count}`}. Pull another revision.`;
  throw new ProductError('invalid_dataset', message);
}

function within(files: HubFile[], at: string): HubFile[] {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  if (bytes <= MAX_PULLED_BYTES) return files;
  const message = `${at}: ${listOf(files)} have ${bytes} bytes; the limit is ${MAX_PULLED_BYTES}. Name one of them with --file.`;
  throw new ProductError('body_too_large', message, { param: 'file' });
}

function listOf(files: readonly HubFile[]): string {
  const names = files.map(({ name }) => name);
  const more = names.length > MAX_LISTED ? ` and ${names.length - MAX_LISTED} more` : '';
  return `${names.slice(0, MAX_LISTED).join(', ')}${more}`;
}

function refused(message: string): ProductError {
  return new ProductError('invalid_request', message, { param: 'file' });
}

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
