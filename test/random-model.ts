import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ConfigFields } from '../packages/model-folder/src/config/config-fields.js';
import { FAMILIES } from '../packages/model-folder/src/families/family-registry.js';
import { SeededRandom } from '../packages/seeded-random/src/index.js';
import { fromFloat32, writeSafetensors } from '../packages/weight-files/src/index.js';

export interface RandomModelOptions {
  /** The tensors that the family finds where it can read several forms of files. @defaultValue any that it asks for */
  hasTensor?: (name: string) => boolean;
  /** @defaultValue F32 */
  dtype?: 'F32' | 'BF16';
}

/** Config of a small mixture whose experts have rows of whole blocks, so that they can be quantized. */
export const SMALL_MIXTURE = {
  ...{ model_type: 'qwen3_moe', vocab_size: 64, hidden_size: 64, intermediate_size: 64, moe_intermediate_size: 64 },
  ...{ num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 32, num_experts: 4 },
  ...{ num_experts_per_tok: 2, norm_topk_prob: true, max_position_embeddings: 64, rms_norm_eps: 0.05 },
  ...{ tie_word_embeddings: true, bos_token_id: 1, eos_token_id: 2, pad_token_id: 0 },
};

/** The tensors of a model whose files have each expert by itself, and not those of a layer in one tensor. */
export const eachByItself = (name: string) => !/experts\.(gate_up|down)_proj$/.test(name);

/** Writes config.json and random weights: all tensors that the family of the config requires. */
export async function writeRandomModel(
  folder: string,
  config: Readonly<Record<string, unknown>>,
  { hasTensor = () => true, dtype = 'F32' }: RandomModelOptions = {},
): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  const own = FAMILIES.get(config.model_type as string)!;
  const fields = new ConfigFields(config as never, 'config.json');
  const architecture = own.readArchitecture({ config: fields, generation: undefined, hasTensor });
  const random = new SeededRandom(7, 'weights of a published structure');
  const tensors = own.layout(architecture).tensors.map(({ name, shape, packed }) => {
    const count = shape.reduce((product, length) => product * length, 1);
    if (packed !== undefined) {
      // Codes have all values; scales are such that weights are about as large as others.
      const least = packed.numbers === 0 ? 119 : 0;
      const bytes = Uint8Array.from({ length: count }, () => least + random.next() * (least === 0 ? 256 : 3));
      return { name, dtype: 'U8' as const, shape: [...shape], data: () => bytes };
    }
    const numbers = Float32Array.from({ length: count }, () =>
      shape.length === 1 ? 0.5 + 0.1 * random.next() : (random.next() - 0.5) / Math.sqrt(shape.at(-1)!),
    );
    return { name, dtype, shape: [...shape], data: () => fromFloat32(numbers, dtype) };
  });
  await writeSafetensors(path.join(folder, 'model.safetensors'), tensors, { format: 'pt' });
}
