import { classifier } from './classifier.js';
import type { Family } from './family.js';
import { gemma2 } from './gemma2.js';
import { gpt2 } from './gpt2.js';
import { llama } from './llama.js';
import { mistral } from './mistral.js';
import { phi3 } from './phi3.js';
import { qwen2 } from './qwen2.js';
import { qwen3 } from './qwen3.js';

/** The families by their `model_type`. Call `layout` only with an architecture of the same family. */
export const FAMILIES: ReadonlyMap<string, Family> = new Map<string, Family>([
  ['llama', llama as Family],
  ['mistral', mistral as Family],
  ['qwen2', qwen2 as Family],
  ['qwen3', qwen3 as Family],
  ['gemma2', gemma2 as Family],
  ['phi3', phi3 as Family],
  ['gpt2', gpt2 as Family],
  ['classifier', classifier as Family],
]);
