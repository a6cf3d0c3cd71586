import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { writeSafetensors } from '../../packages/weight-files/src/index.js';
import { normalNumbers } from '../numeric/normal-numbers.js';

export interface RandomLlama {
  layers: number;
  hidden?: number;
  heads?: number;
  keyValueHeads?: number;
  headDim?: number;
  vocabulary?: number;
  /** The window of every layer; null: none. */
  window?: number | null;
}

/** Writes the folder of a llama (with a window: a mistral) with random weights, the same for the same shape. */
export async function writeRandomLlama(folder: string, shape: RandomLlama): Promise<void> {
  const { layers, hidden = 32, heads = 4, keyValueHeads = 2, headDim = 8, vocabulary = 64, window = null } = shape;
  const intermediate = 2 * hidden;
  const config = {
    ...{ hidden_size: hidden, intermediate_size: intermediate, num_hidden_layers: layers, vocab_size: vocabulary },
    ...{ num_attention_heads: heads, num_key_value_heads: keyValueHeads, head_dim: headDim },
    ...{ max_position_embeddings: 16_384, tie_word_embeddings: true, rms_norm_eps: 1e-5 },
    ...(window === null ? { model_type: 'llama' } : { model_type: 'mistral', sliding_window: window }),
  };
  const shapes: [name: string, sizes: number[]][] = [['model.embed_tokens.weight', [vocabulary, hidden]]];
  for (let index = 0; index < layers; index++) {
    const add = (part: string, sizes: number[]) => shapes.push([`model.layers.${index}.${part}.weight`, sizes]);
    add('input_layernorm', [hidden]);
    add('self_attn.q_proj', [heads * headDim, hidden]);
    add('self_attn.k_proj', [keyValueHeads * headDim, hidden]);
    add('self_attn.v_proj', [keyValueHeads * headDim, hidden]);
    add('self_attn.o_proj', [hidden, heads * headDim]);
    add('post_attention_layernorm', [hidden]);
    add('mlp.gate_proj', [intermediate, hidden]);
    add('mlp.up_proj', [intermediate, hidden]);
    add('mlp.down_proj', [hidden, intermediate]);
  }
  shapes.push(['model.norm.weight', [hidden]]);
  const tensors = shapes.map(([name, sizes], place) => {
    const size = sizes.reduce((product, dimension) => product * dimension, 1);
    const centre = sizes.length === 1 ? 1 : 0;
    const numbers = normalNumbers(size, place + 1).map((value) => centre + 0.1 * value);
    return { name, dtype: 'F32' as const, shape: sizes, data: new Uint8Array(Float32Array.from(numbers).buffer) };
  });
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
}
