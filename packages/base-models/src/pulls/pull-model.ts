import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { mapWithConcurrency } from '@lorasmith/concurrency';
import { type ModelOrigin, type ModelPull, ProductError, type PulledFile } from '@lorasmith/contracts';
import {
  downloadFile,
  type HubFile,
  type HubRepository,
  type HubSettings,
  type HubSubject,
  openHubRepository,
} from '@lorasmith/hub';
import { checkModelConfig, ORIGIN_FILE } from '@lorasmith/model-folder';
import { freeBytesOf, writeFileAtomic } from '@lorasmith/storage';
import { chooseFiles, WEIGHTS_INDEX, weightsOfIndex } from './choose-files.js';
import type { ModelDestination } from './model-destination.js';
import { type PullFolder, pullFolder } from './pull-folder.js';

export interface PullLimits {
  /** Maximum bytes of all files of a model together. */
  maxBytes: number;
  /** Bytes of the disk that stay free. */
  keepFreeBytes: number;
}

export interface PullModelOptions {
  hub: HubSettings & { offline: boolean };
  destination: ModelDestination;
  limits: PullLimits;
  signal: AbortSignal;
  progress: PullProgress;
  /** Called before the model is published: writes the record, and throws if this process may not go on. */
  confirm: () => Promise<void>;
}

/** Files that are fetched at once. */
const CONNECTIONS = 3;

/**
 * Fetches a base model and publishes it under its name. What an earlier attempt has fetched of the same commit is used.
 *
 * @throws ProductError `hub_offline`, `hub_access_denied`, `hub_model_not_found`, `hub_unavailable`, `hub_file_corrupt`,
 *   `model_file_missing`, `model_file_corrupt`, `model_not_supported`, `storage_full`, `storage_unavailable`, `conflict`; the
 *   reason of the signal
 */
export async function pullModel(pull: ModelPull, options: PullModelOptions): Promise<void> {
  const { hub, destination, signal } = options;
  const { name, repo, revision } = pull;
  const folder = pullFolder(destination.stagingDir, name);
  if (await destination.isPulled(pull)) return await folder.remove();
  if (await destination.exists(name)) throw nameInUse(name);
  if (hub.offline) {
    const message = `HF_HUB_OFFLINE is set, so nothing is fetched from the hub. Copy ${repo} into the models folder, or start the puller without it.`;
    throw new ProductError('hub_offline', message);
  }
  const subject: HubSubject = { kind: 'model', repo, revision };
  const repository = await openHubRepository(subject, hub, signal);
  try {
    // A pull that was interrupted continues with the commit that it has begun with.
    const commit = pull.commit ?? (await repository.commit());
    options.progress.begin(commit);
    await writable(destination.stagingDir, () => folder.prepare({ repo, commit }));
    await fetchAll({ ...options, repository, subject, commit, folder });
    const origin: ModelOrigin = { repo, revision, commit };
    await writeFileAtomic(path.join(folder.complete, ORIGIN_FILE), `${JSON.stringify(origin)}\n`);
    await options.confirm();
    if (!(await destination.publish(folder, name))) throw nameInUse(name);
    await folder.remove();
  } finally {
    await repository.close();
  }
}

type FetchOptions = PullModelOptions & {
  repository: HubRepository;
  subject: HubSubject;
  commit: string;
  folder: PullFolder;
};

async function fetchAll(options: FetchOptions): Promise<void> {
  const { repository, subject, commit, folder, limits, progress } = options;
  const chosen = chooseFiles(await repository.files(commit), subject.repo);
  const expect = async (files: readonly HubFile[]) =>
    progress.expect(
      await Promise.all(files.map(async (file) => ({ file, bytes: (await folder.stateOf(file.name)).bytes }))),
    );
  const fetchFiles = (files: readonly HubFile[]) =>
    mapWithConcurrency(files, CONNECTIONS, (file) =>
      downloadFile(file, { ...options, onProgress: (bytes) => progress.received(file, bytes) }),
    );

  await expect(chosen.small);
  checkSize(chosen.small, subject.repo, limits);
  await requireFreeBytes(chosen.small, options);
  await fetchFiles(chosen.small);
  // A model that cannot be used is refused before its weights are fetched.
  await checkModelConfig(folder.complete);
  const weights = chosen.indexed
    ? weightsOfIndex(await readFile(path.join(folder.complete, WEIGHTS_INDEX), 'utf8'), chosen.weights, subject.repo)
    : chosen.weights;
  const all = [...chosen.small, ...weights];
  await expect(all);
  checkSize(all, subject.repo, limits);
  await requireFreeBytes(weights, options);
  await fetchFiles(weights);
}

function checkSize(files: readonly HubFile[], repo: string, { maxBytes }: PullLimits): void {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  if (bytes <= maxBytes) return;
  const message = `${repo} has ${bytes} bytes; MODEL_PULL_MAX_BYTES allows ${maxBytes}.`;
  throw new ProductError('model_not_supported', message);
}

async function requireFreeBytes(
  files: readonly HubFile[],
  { folder, destination, limits }: FetchOptions,
): Promise<void> {
  let missing = 0;
  for (const { name, bytes } of files) missing += Math.max(0, bytes - (await folder.stateOf(name)).bytes);
  const free = await freeBytesOf(destination.stagingDir);
  if (missing + limits.keepFreeBytes <= free) return;
  const message =
    `${missing} bytes are still to be fetched, and ${free} bytes are free on the disk of the models folder, of which ` +
    `${limits.keepFreeBytes} stay free (MODEL_PULL_KEEP_FREE_BYTES). Free some space, then pull it again.`;
  throw new ProductError('storage_full', message);
}

/** Runs the first write to the models folder, and says what to do if that is not allowed. */
async function writable(stagingDir: string, write: () => Promise<void>): Promise<void> {
  try {
    await mkdir(stagingDir, { recursive: true });
    await write();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!['EACCES', 'EPERM', 'EROFS'].includes(code)) throw error;
    const user = process.getuid === undefined ? 'its user' : `user ${process.getuid()}`;
    const message = `The puller may not write to ${path.dirname(stagingDir)} (${code}). Let ${user} write there, then pull it again.`;
    throw new ProductError('storage_unavailable', message, { cause: error });
  }
}

function nameInUse(name: string): ProductError {
  const message = `There is a base model ${name} already. Pull it under another name (name), or remove that one first.`;
  return new ProductError('conflict', message, { param: 'name' });
}

/** The progress of a pull so far, as its record shows it. */
interface PullProgress {
  begin(commit: string): void;
  /** Files that will be fetched, and how many bytes of each are on the disk. */
  expect(files: readonly { file: HubFile; bytes: number }[]): void;
  received(file: HubFile, bytes: number): void;
  snapshot(): Pick<ModelPull, 'commit' | 'files' | 'total_bytes' | 'received_bytes'>;
}

export function createPullProgress({ commit: firstCommit, files: firstFiles }: ModelPull): PullProgress {
  let commit = firstCommit;
  const files = new Map<string, PulledFile>(firstFiles.map((file) => [file.name, { ...file }]));
  return {
    begin(found) {
      commit = found;
      files.clear();
    },
    expect(expected) {
      for (const { file, bytes } of expected) {
        files.set(file.name, { ...file, received_bytes: Math.min(bytes, file.bytes) });
      }
    },
    received({ name }, bytes) {
      files.get(name)!.received_bytes = bytes;
    },
    snapshot() {
      const all = [...files.values()].map((file) => ({ ...file }));
      return {
        commit,
        files: all,
        total_bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
        received_bytes: all.reduce((sum, { received_bytes }) => sum + received_bytes, 0),
      };
    },
  };
}
