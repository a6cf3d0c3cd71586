import { readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A file's name in messages: `<model>/<file>`. It does not reveal the path on the host. */
export function modelFileLabel(folder: string, file: string): string {
  return `${basename(folder)}/${file}`;
}

/**
 * Reads a JSON object from a file of a model folder.
 *
 * @param maxBytes the maximum size of the file
 * @throws ProductError model_file_missing, model_file_corrupt (naming the file)
 */
export async function readJsonFile(folder: string, file: string, maxBytes: number): Promise<JsonObject> {
  const value = await readOptionalJsonFile(folder, file, maxBytes);
  if (value === null) throw missingJsonFile(folder, file);
  return value;
}

/** The error of a required file that is not there. */
export function missingJsonFile(folder: string, file: string): ProductError {
  const message = `${modelFileLabel(folder, file)} is missing. Copy it into the folder.`;
  return new ProductError('model_file_missing', message);
}

/** The content as {@link readJsonFile} reads it, but null for a missing file. */
export async function readOptionalJsonFile(folder: string, file: string, maxBytes: number): Promise<JsonObject | null> {
  const path = join(folder, file);
  const label = modelFileLabel(folder, file);
  let bytes: Uint8Array;
  try {
    const status = await stat(path);
    if (!status.isFile()) throw new ProductError('model_file_corrupt', `${label} is not a file.`);
    if (status.size > maxBytes) {
      throw new ProductError('model_file_corrupt', `${label} has ${status.size} bytes; the limit is ${maxBytes}.`);
    }
    bytes = await readFile(path);
  } catch (error) {
    if (isMissing(error)) return null;
    throw unreadable(error, label);
  }
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ProductError('model_file_corrupt', `${label} is not valid JSON in UTF-8. Copy it again.`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ProductError('model_file_corrupt', `${label} does not contain a JSON object.`);
  }
  return value as JsonObject;
}

export function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

/** Converts a system error of reading a model file to a ProductError; returns a ProductError unchanged. */
export function unreadable(error: unknown, label: string): ProductError {
  if (error instanceof ProductError) return error;
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  return new ProductError('model_file_corrupt', `${label} cannot be read (${code}).`, { cause: error });
}
