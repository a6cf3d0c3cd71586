import { ProductError } from '@lorasmith/contracts';
import { openSafetensors, type SafetensorsFile, type TensorEntry } from '@lorasmith/weight-files';
import { modelFileLabel } from '../config/json-file.js';
import type { ModelFolder } from '../model-folder.js';
import { asModelError, type LocatedTensor } from './locate-tensors.js';

/** The open weight files of a base model. Tensors are read by name, one at a time, from any of the files. */
export interface ModelWeights {
  /** @throws ProductError model_file_missing for a tensor that no file has */
  entry(name: string): TensorEntry;

  /**
   * @param into as in SafetensorsFile.read
   * @throws ProductError model_file_missing, model_file_corrupt
   */
  read(name: string, into?: Uint8Array): Promise<Uint8Array>;

  /**
   * @param begin byte of the tensor
   * @param into filled
   * @throws as {@link read}
   */
  readRange(name: string, begin: number, into: Uint8Array): Promise<void>;

  /** The location of its bytes, for readers that are not in JavaScript. The file descriptor is open until `close`. */
  location(name: string): { fd: number; offset: number; bytes: number };

  /** The error for a tensor that such a reader could not read. */
  readFailure(name: string, error: unknown): ProductError;

  close(): Promise<void>;
}

/**
 * Opens every weight file of a model, for the caller to close.
 *
 * @throws ProductError model_file_corrupt when a file is invalid, or has changed since the folder was read
 */
export async function openWeightFiles(folder: ModelFolder): Promise<Map<string, SafetensorsFile>> {
  const open = new Map<string, SafetensorsFile>();
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
    return open;
  } catch (error) {
    for (const file of open.values()) await file.close();
    throw error;
  }
}

/** @throws ProductError model_file_missing for a tensor that no file has */
export function locateTensor(folder: ModelFolder, name: string): LocatedTensor {
  const located = folder.tensors.get(name);
  if (located) return located;
  throw new ProductError('model_file_missing', `${folder.name}: no weight file contains the tensor ${name}.`);
}

/**
 * Opens every weight file of a model; `close` closes them.
 *
 * @throws as {@link openWeightFiles}
 */
export async function openModelWeights(folder: ModelFolder): Promise<ModelWeights> {
  const open = await openWeightFiles(folder);
  const reading = async <Result>(name: string, read: (file: SafetensorsFile) => Promise<Result>): Promise<Result> => {
    const { file } = locateTensor(folder, name);
    try {
      return await read(open.get(file)!);
    } catch (error) {
      throw error instanceof RangeError ? error : asModelError(error, folder.path, file);
    }
  };
  return {
    entry: (name) => locateTensor(folder, name).entry,
    read: (name, into) => reading(name, (file) => file.read(name, into)),
    readRange: (name, begin, into) => reading(name, (file) => file.readRange(name, begin, into)),
    location: (name) => {
      const { file } = locateTensor(folder, name);
      const opened = open.get(file)!;
      const { byteOffset, byteLength } = opened.tensors.get(name)!;
      return { fd: opened.fd, offset: byteOffset, bytes: byteLength };
    },
    readFailure: (name, error) => asModelError(error, folder.path, locateTensor(folder, name).file),
    close: async () => {
      for (const file of open.values()) await file.close();
    },
  };
}

interface Folder {
  path: string;
  tensors: ReadonlyMap<string, LocatedTensor>;
}

/**
 * Checks the logarithms of the decays of linear attention.
 *
 * @param name of their tensor
 * @throws ProductError model_file_corrupt for one whose exponential is not finite in float32
 */
export function checkDecays(folder: Folder, name: string, logs: Float32Array): void {
  const head = logs.findIndex((log) => !Number.isFinite(Math.fround(Math.exp(log))));
  if (head === -1) return;
  throw corrupt(folder, name, `has ${logs[head]} for head ${head}, whose exponential is not finite`);
}

/**
 * Checks the factor of a layer.
 *
 * @param name of its tensor
 * @throws ProductError model_file_corrupt for one that is not finite
 */
export function checkFactor(folder: Folder, name: string, factor: number): void {
  if (!Number.isFinite(factor)) throw corrupt(folder, name, `is ${factor}, but must be finite`);
}

/**
 * Checks the weight of a router.
 *
 * @param name of its tensor
 * @param weight `[experts, hidden]`
 * @throws ProductError model_file_corrupt for a number that is not finite
 */
export function checkRouter(folder: Folder, name: string, weight: Float32Array, hiddenSize: number): void {
  const index = weight.findIndex((number) => !Number.isFinite(number));
  if (index === -1) return;
  const expert = Math.floor(index / hiddenSize);
  throw corrupt(folder, name, `has ${weight[index]} for expert ${expert}, but must be finite. Copy it again`);
}

function corrupt({ path, tensors }: Folder, name: string, what: string): ProductError {
  const label = modelFileLabel(path, tensors.get(name)!.file);
  return new ProductError('model_file_corrupt', `${label}: tensor ${name} ${what}.`);
}
