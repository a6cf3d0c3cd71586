import { isPrintable, ProductError } from '@lorasmith/contracts';
import type { HubFile } from '@lorasmith/hub';

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
