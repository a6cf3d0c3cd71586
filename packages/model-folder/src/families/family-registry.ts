import { classifier } from './classifier.js';
import type { Family } from './family.js';
import { llama } from './llama.js';
import { qwen2 } from './qwen2.js';

/** The families by their `model_type`. A family is asked for the layout of no architecture but its own. */
export const FAMILIES: ReadonlyMap<string, Family> = new Map<string, Family>([
  ['llama', llama as Family],
  ['qwen2', qwen2 as Family],
  ['classifier', classifier as Family],
]);
