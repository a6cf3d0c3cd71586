import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ModelFolder, readModelFolder } from '@lorasmith/model-folder';
import { writeSafetensors } from '@lorasmith/weight-files';

const LLAMA = { model_type: 'llama', max_position_embeddings: 1024, tie_word_embeddings: true };

/** `realistic`: a small llama in the proportions of real ones. `tiny`: for the emulation of a GPU. */
const CONFIGS = {
  realistic: {
    ...LLAMA,
    hidden_size: 512,
    intermediate_size: 1408,
    num_hidden_layers: 3,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    vocab_size: 2048,
  },
  tiny: {
    ...LLAMA,
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 128,
  },
};

export type ProbeModelSize = keyof typeof CONFIGS;
type ProbeConfig = (typeof CONFIGS)[ProbeModelSize];

/** Writes a base model with arbitrary weights and removes it after `use`. The code that is timed is the one that trains real models. */
export async function withProbeModel<Result>(
  use: (folder: ModelFolder) => Promise<Result>,
  size: ProbeModelSize = 'realistic',
): Promise<Result> {
  const config = CONFIGS[size];
  const path = await mkdtemp(join(tmpdir(), 'lorasmith-probe-'));
  try {
    await writeFile(join(path, 'config.json'), JSON.stringify(config));
    await writeSafetensors(
      join(path, 'model.safetensors'),
      tensorShapes(config).map(([name, shape]) => ({ name, dtype: 'F32' as const, shape, data: () => weights(shape) })),
    );
    return await use(await readModelFolder(path));
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

function tensorShapes(config: ProbeConfig): [string, number[]][] {
  const { hidden_size: hidden, intermediate_size: intermediate, vocab_size: vocab } = config;
  const keyValue = (hidden / config.num_attention_heads) * config.num_key_value_heads;
  const layers = Array.from({ length: config.num_hidden_layers }, (_, index): [string, number[]][] => [
    [`model.layers.${index}.input_layernorm.weight`, [hidden]],
    [`model.layers.${index}.self_attn.q_proj.weight`, [hidden, hidden]],
    [`model.layers.${index}.self_attn.k_proj.weight`, [keyValue, hidden]],
    [`model.layers.${index}.self_attn.v_proj.weight`, [keyValue, hidden]],
    [`model.layers.${index}.self_attn.o_proj.weight`, [hidden, hidden]],
    [`model.layers.${index}.post_attention_layernorm.weight`, [hidden]],
    [`model.layers.${index}.mlp.gate_proj.weight`, [intermediate, hidden]],
    [`model.layers.${index}.mlp.up_proj.weight`, [intermediate, hidden]],
    [`model.layers.${index}.mlp.down_proj.weight`, [hidden, intermediate]],
  ]);
  return [['model.embed_tokens.weight', [vocab, hidden]], ...layers.flat(), ['model.norm.weight', [hidden]]];
}

/** Small numbers that differ; their values do not matter. */
async function weights(shape: number[]): Promise<Uint8Array> {
  const values = new Float32Array(shape.reduce((product, dimension) => product * dimension, 1));
  for (let i = 0; i < values.length; i++) values[i] = ((i * 7919) % 1009) / 20_000 - 0.025;
  return new Uint8Array(values.buffer);
}
