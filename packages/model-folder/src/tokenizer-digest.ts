import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isMissing, modelFileLabel, unreadable } from './json-file.js';

/** Every file besides config.json that affects how text becomes tokens. */
const FILES = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja'];

/**
 * A digest of the tokenizer and chat template of a base-model folder.
 *
 * @returns sha256, hexadecimal
 * @throws ProductError model_file_corrupt when a file cannot be read
 */
export async function digestTokenizer(folder: string): Promise<string> {
  const all = createHash('sha256');
  for (const file of FILES) {
    const content = await readIfPresent(folder, file);
    if (content !== null) all.update(`${file} ${createHash('sha256').update(content).digest('hex')}\n`);
  }
  return all.digest('hex');
}

async function readIfPresent(folder: string, file: string): Promise<Uint8Array | null> {
  try {
    return await readFile(join(folder, file));
  } catch (error) {
    if (isMissing(error)) return null;
    throw unreadable(error, modelFileLabel(folder, file));
  }
}
