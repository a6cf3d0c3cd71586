import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeCharacterTokenizer } from './family-models.mjs';
import { writeRandomModel } from './random-model.js';

const PUBLISHED = fileURLToPath(new URL('fixtures/published/', import.meta.url));

type Config = Record<string, unknown>;

/** The settings of a tiny model, above all its widths. What is not named here stays as it was published: layers and their kinds, heads, ropes, windows. */
const WIDTHS: Config = {
  hidden_size: 64,
  intermediate_size: 96,
  shared_intermediate_size: 96,
  moe_intermediate_size: 32,
  shared_expert_intermediate_size: 48,
  vocab_size: 64,
  head_dim: 16,
  global_head_dim: 32,
  hidden_size_per_layer_input: 8,
  vocab_size_per_layer_input: 64,
  linear_key_head_dim: 8,
  linear_value_head_dim: 16,
  q_lora_rank: 24,
  kv_lora_rank: 16,
  qk_nope_head_dim: 8,
  qk_rope_head_dim: 8,
  v_head_dim: 16,
  // The small numbers of random weights would be little but rounding beside a smaller one.
  rms_norm_eps: 0.05,
  // Of the tokenizer's.
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 0,
};

/**
 * Writes a model with random weights of the structure of `fixtures/published/FAMILY.json`, its widths scaled down.
 *
 * @param changes - Of its settings, beside the widths.
 * @returns the published checkpoint
 */
export async function writePublishedModel(family: string, folder: string, changes: Config = {}): Promise<string> {
  const { checkpoint, config } = JSON.parse(await readFile(path.join(PUBLISHED, `${family}.json`), 'utf8'));
  const scaled = { ...withWidths(config), ...changes };
  await writeRandomModel(folder, scaled);
  await writeCharacterTokenizer(folder);
  return checkpoint;
}

function withWidths(config: Config): Config {
  // Where heads have no size of their own, the width of the model gives it.
  const heads = config.num_attention_heads as number | undefined;
  const hidden: Config = config.head_dim === undefined && heads !== undefined ? { hidden_size: 8 * heads } : {};
  return Object.fromEntries(
    Object.entries(config).map(([name, value]) => {
      if (name === 'text_config') return [name, withWidths(value as Config)];
      return [name, hidden[name] ?? WIDTHS[name] ?? value];
    }),
  );
}
