import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { closed } from '@lorasmith/contracts';
import type { DownloadFolder } from '@lorasmith/hub';
import { isAbsent, syncFolder, writeFileAtomic } from '@lorasmith/storage';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';

/** The commit that the staged files belong to. */
const StagedCommit = Type.Object({ repo: Type.String(), commit: Type.String() }, closed);
type StagedCommit = Static<typeof StagedCommit>;

const COMMIT_FILE = 'commit.json';

/**
 * The staged files of one pull: in `parts` those that are incomplete or not checked, and in a folder with the model's name
 * those that are. That folder becomes the model's folder.
 */
export interface PullFolder extends DownloadFolder {
  /** The parent of {@link complete}, for functions that take a models folder and a name. */
  parent: string;
  complete: string;
  /** Makes the folder, and empties it first if it has files of another commit. */
  prepare(origin: StagedCommit): Promise<void>;
  remove(): Promise<void>;
}

/** @param stagingDir - Contains a folder for each pull. */
export function pullFolder(stagingDir: string, name: string): PullFolder {
  const parent = path.join(stagingDir, name);
  const complete = path.join(parent, name);
  // A model's name cannot start with a dot.
  const parts = path.join(parent, '.parts');
  const commitFile = path.join(parent, COMMIT_FILE);
  const partOf = (file: string) => path.join(parts, file);
  const remove = () => rm(parent, { recursive: true, force: true });
  return {
    parent,
    complete,
    partOf,
    async prepare({ repo, commit }) {
      const staged = await readCommit(commitFile);
      if (staged?.repo !== repo || staged.commit !== commit) await remove();
      await mkdir(parts, { recursive: true });
      await mkdir(complete, { recursive: true });
      await writeFileAtomic(commitFile, JSON.stringify({ repo, commit }));
    },
    async stateOf(file) {
      const whole = await sizeOf(path.join(complete, file));
      if (whole !== null) return { bytes: whole, complete: true };
      return { bytes: (await sizeOf(partOf(file))) ?? 0, complete: false };
    },
    async accept(file) {
      await rename(partOf(file), path.join(complete, file));
      await syncFolder(complete);
    },
    remove,
  };
}

/**
 * Removes the staged files of pulls that nobody has continued.
 * @param isOpen - Whether a pull of this name is unfinished.
 * @returns the number of removed folders
 */
export async function sweepPullFolders(
  stagingDir: string,
  isOpen: (name: string) => boolean,
  olderThanMs: number,
): Promise<number> {
  let removed = 0;
  for (const name of await readdir(stagingDir).catch(() => [])) {
    const folder = path.join(stagingDir, name);
    if (isOpen(name) || Date.now() - (await lastWrite(folder)) < olderThanMs) continue;
    await rm(folder, { recursive: true, force: true });
    removed++;
  }
  return removed;
}

async function lastWrite(folder: string): Promise<number> {
  let latest = 0;
  for (const entry of ['.', ...(await readdir(folder, { recursive: true }).catch(() => []))]) {
    latest = Math.max(latest, (await stat(path.join(folder, entry)).catch(() => null))?.mtimeMs ?? Date.now());
  }
  return latest;
}

async function readCommit(file: string): Promise<StagedCommit | null> {
  try {
    const value: unknown = JSON.parse(await readFile(file, 'utf8'));
    return Value.Check(StagedCommit, value) ? value : null;
  } catch {
    return null;
  }
}

async function sizeOf(file: string): Promise<number | null> {
  try {
    return (await stat(file)).size;
  } catch (error) {
    if (isAbsent(error)) return null;
    throw error;
  }
}
