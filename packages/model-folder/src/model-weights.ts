import { ProductError } from '@lorasmith/contracts';
import { openSafetensors, type SafetensorsFile, type TensorEntry } from '@lorasmith/safetensors';
import type { ModelFolder } from './model-folder.js';
import { asModelError } from './weight-files.js';

/** The open weight files of a base model. Tensors are read by name, one at a time, from any of the files. */
export interface ModelWeights {
  /** @throws ProductError model_file_missing for a tensor that no file has */
  entry(name: string): TensorEntry;

  /**
   * @param into as in SafetensorsFile.read
   * @throws ProductError model_file_missing, model_file_corrupt
   */
  read(name: string, into?: Uint8Array): Promise<Uint8Array>;

  /** Where its bytes are, for readers that are not in JavaScript. The file descriptor is open until `close`. */
  location(name: string): { fd: number; offset: number; bytes: number };

  /** The error for a tensor that such a reader could not read. */
  readFailure(name: string, error: unknown): ProductError;

  close(): Promise<void>;
}

/**
 * Opens every weight file of a model; `close` closes them.
 *
 * @throws ProductError model_file_corrupt when a file is invalid, or has changed since the folder was read
 */
export async function openModelWeights(folder: ModelFolder): Promise<ModelWeights> {
  const open = new Map<string, SafetensorsFile>();
  const close = async () => {
    for (const file of open.values()) await file.close();
  };
  try {
    for (const { name, path } of folder.files) {
      try {
        open.set(name, await openSafetensors(path));
      } catch (error) {
        throw asModelError(error, folder.path, name);
      }
    }
    for (const [name, { file, entry }] of folder.tensors) {
      const now = open.get(file)?.tensors.get(name);
      if (!now || now.dtype !== entry.dtype || now.shape.join() !== entry.shape.join()) {
        const message = `${folder.name}/${file} has changed while it was in use (tensor ${name}). Start again.`;
        throw new ProductError('model_file_corrupt', message);
      }
    }
  } catch (error) {
    await close();
    throw error;
  }

  const locate = (name: string) => {
    const located = folder.tensors.get(name);
    if (!located)
      throw new ProductError('model_file_missing', `${folder.name}: no weight file contains the tensor ${name}.`);
    return located;
  };
  return {
    entry: (name) => locate(name).entry,
    read: async (name, into) => {
      const { file } = locate(name);
      try {
        return await open.get(file)!.read(name, into);
      } catch (error) {
        throw error instanceof RangeError ? error : asModelError(error, folder.path, file);
      }
    },
    location: (name) => {
      const { file } = locate(name);
      const opened = open.get(file)!;
      const { byteOffset, byteLength } = opened.tensors.get(name)!;
      return { fd: opened.fd, offset: byteOffset, bytes: byteLength };
    },
    readFailure: (name, error) => asModelError(error, folder.path, locate(name).file),
    close,
  };
}
