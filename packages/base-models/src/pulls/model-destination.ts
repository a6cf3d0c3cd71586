import { readFile, rename, stat } from 'node:fs/promises';
import path from 'node:path';
import { ModelOrigin, type ModelPull } from '@lorasmith/contracts';
import { ORIGIN_FILE, openBaseModel } from '@lorasmith/model-folder';
import { isAbsent, type S3BundleStore, syncFolder, syncTree, systemErrorCode } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import { pushModel } from '../sources/model-source.js';
import type { PullFolder } from './pull-folder.js';

/** The models folder or the bucket that pulled models are published to. */
export interface ModelDestination {
  /** The folder for files of unfinished pulls. */
  stagingDir: string;
  exists(name: string): Promise<boolean>;
  /** True if the model exists because this pull has published it, and died before it could say so. */
  isPulled(pull: ModelPull): Promise<boolean>;
  /**
   * Checks a complete model as for a job, and publishes it at once.
   * @returns false if the name is in use
   * @throws ProductError `model_file_missing`, `model_file_corrupt`, `model_not_supported`; those of the store
   */
  publish(folder: PullFolder, name: string): Promise<boolean>;
}

/** The models folder of this host. Staged files are in it, so that a model is published by one rename. */
export function modelsFolderDestination(modelsDir: string): ModelDestination {
  const exists = async (name: string) => {
    try {
      await stat(path.join(modelsDir, name));
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw error;
    }
  };
  return {
    stagingDir: path.join(modelsDir, '.pulls'),
    exists,
    isPulled: async (pull) =>
      isOriginOf(pull, await readFile(path.join(modelsDir, pull.name, ORIGIN_FILE), 'utf8').catch(() => null)),
    async publish({ parent, complete }, name) {
      await openBaseModel(parent, name);
      await syncTree(complete);
      if (await exists(name)) return false;
      try {
        await rename(complete, path.join(modelsDir, name));
      } catch (error) {
        if (['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) return false;
        throw error;
      }
      await syncFolder(modelsDir);
      return true;
    },
  };
}

/** The bucket that several hosts share. Files are staged in the data folder of this host. */
export function bucketDestination(store: S3BundleStore, dataDir: string): ModelDestination {
  return {
    stagingDir: path.join(dataDir, 'model-pulls'),
    exists: (name) => store.has(name),
    async isPulled(pull) {
      if (pull.commit === null || !(await store.has(pull.name))) return false;
      const { files } = await store.record(pull.name);
      if (!files.some(({ name }) => name === ORIGIN_FILE)) return false;
      const chunks = await (await store.read(pull.name, ORIGIN_FILE)).toArray();
      return isOriginOf(pull, Buffer.concat(chunks).toString('utf8'));
    },
    publish: async ({ parent }, name) => (await pushModel({ store, modelsDir: parent, name, replace: false })) !== null,
  };
}

function isOriginOf({ repo, commit }: ModelPull, text: string | null): boolean {
  if (text === null) return false;
  try {
    const origin: unknown = JSON.parse(text);
    return Value.Check(ModelOrigin, origin) && origin.repo === repo && origin.commit === commit;
  } catch {
    return false;
  }
}
