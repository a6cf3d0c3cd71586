import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';

/** Whether a file of a base model contains weights. */
export function isWeightFile(name: string): boolean {
  return name.endsWith('.safetensors');
}

/** Weights, settings, tokenizer, chat template and licence, but no hidden files and no pickles. */
const WANTED = /^[A-Za-z0-9_][A-Za-z0-9_-]*$|^[A-Za-z0-9_][A-Za-z0-9._-]*\.(safetensors|json|txt|jinja|model|md)$/;

/** The names of the files that are stored, sorted. Links to files count as files. */
export async function modelFileNames(folder: string): Promise<string[]> {
  const names: string[] = [];
  for (const name of await readdir(folder)) {
    if (WANTED.test(name) && (await stat(path.join(folder, name))).isFile()) names.push(name);
  }
  return names.sort();
}
