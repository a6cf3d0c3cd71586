import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import {
  isMissing,
  isObject,
  type JsonObject,
  modelFileLabel,
  readOptionalJsonFile,
  unreadable,
} from '../config/json-file.js';

/** Tokenizer settings can contain several chat templates; the largest known files have about 100 KB. */
const MAX_CONFIG_BYTES = 16 * 2 ** 20;

/** The text of the special tokens that the settings name. */
export interface NamedTokens {
  bos: string | null;
  eos: string | null;
  pad: string | null;
  unk: string | null;
  sep: string | null;
  cls: string | null;
  mask: string | null;
}

/**
 * Reads tokenizer_config.json; empty if the file is missing. As in transformers, special_tokens_map.json overrides the named
 * tokens, unless the config has `added_tokens_decoder`.
 */
export async function readTokenizerConfig(folder: string): Promise<JsonObject> {
  const config = (await readOptionalJsonFile(folder, 'tokenizer_config.json', MAX_CONFIG_BYTES)) ?? {};
  if ('added_tokens_decoder' in config) return config;
  const map = (await readOptionalJsonFile(folder, 'special_tokens_map.json', MAX_CONFIG_BYTES)) ?? {};
  const named = Object.entries(map).filter(([key]) => key.endsWith('_token'));
  return { ...config, ...Object.fromEntries(named) };
}

/** Reads the named tokens: each is a string, or an object with the string as `content`. */
export function namedTokensOf(config: JsonObject): NamedTokens {
  const tokenOf = (key: string): string | null => {
    const value = config[key];
    if (typeof value === 'string') return value;
    if (isObject(value) && typeof value.content === 'string') return value.content;
    return null;
  };
  return {
    bos: tokenOf('bos_token'),
    eos: tokenOf('eos_token'),
    pad: tokenOf('pad_token'),
    unk: tokenOf('unk_token'),
    sep: tokenOf('sep_token'),
    cls: tokenOf('cls_token'),
    mask: tokenOf('mask_token'),
  };
}

/** The error for an invalid tokenizer file; `what` completes a sentence about the file. */
export function corruptTokenizerFile(folder: string, file: string, what: string, cause?: unknown): ProductError {
  const message = `${modelFileLabel(folder, file)} is corrupt: ${what}. Copy it into the folder again.`;
  return new ProductError('model_file_corrupt', message, { cause });
}

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
