import { ProductError } from '@lorasmith/contracts';
import type { GgufTensor } from './gguf-header.js';
import type { LlamaSettings } from './llama-config.js';

/** A tensor of the Hugging Face folder and its source in the GGUF file. */
export interface TensorPlan {
  /** Name in the folder. */
  name: string;
  source: GgufTensor;
  /** The number of heads whose rows must be unpermuted; null if the order is the same. */
  permutedHeads: number | null;
}

/** Hugging Face names of the tensors outside the layers, by GGUF name. */
const TOP_NAMES: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
};

/** Hugging Face names of the modules of a layer, by GGUF name. */
const LAYER_MODULES: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

/** Converted to rope_scaling; see rope-factors.ts. */
export const ROPE_FACTORS = 'rope_freqs.weight';

/**
 * Plans the tensors of the folder, named as in transformers.
 *
 * @throws ProductError model_not_supported for a tensor with an unknown name
 */
export function planLlamaTensors(
  tensors: ReadonlyMap<string, GgufTensor>,
  settings: LlamaSettings,
  label: string,
): TensorPlan[] {
  const plans: TensorPlan[] = [];
  for (const source of tensors.values()) {
    if (source.name === ROPE_FACTORS) continue;
    const plan = planTensor(source, settings);
    if (!plan) {
      throw new ProductError(
        'model_not_supported',
        `${label}: the tensor ${JSON.stringify(source.name)} is not supported.`,
      );
    }
    plans.push(plan);
  }
  return plans;
}

function planTensor(source: GgufTensor, settings: LlamaSettings): TensorPlan | null {
  if (Object.hasOwn(TOP_NAMES, source.name)) {
    return { name: TOP_NAMES[source.name]!, source, permutedHeads: null };
  }
  const [, layer, module, kind] = /^blk\.(\d{1,4})\.(\w+)\.(weight|bias)$/.exec(source.name) ?? [];
  if (!layer || !module || !Object.hasOwn(LAYER_MODULES, module) || Number(layer) >= settings.layerCount) return null;
  const name = `model.layers.${Number(layer)}.${LAYER_MODULES[module]}.${kind}`;
  return { name, source, permutedHeads: permutedHeads(module, settings) };
}

/** GGUF stores query and key rows for RoPE on adjacent pairs; transformers rotates the two halves of a head. */
function permutedHeads(module: string, settings: LlamaSettings): number | null {
  if (module === 'attn_q') return settings.headCount;
  if (module === 'attn_k') return settings.keyValueHeadCount;
  return null;
}

/**
 * Undoes the permutation of llama.cpp's converter: in each head, row 2j + s moves to s · headDim/2 + j.
 *
 * @param rows the bytes of a matrix [heads · headDim, …] or of a bias
 * @returns a copy with the rows in the order of transformers
 */
export function unpermuteRows(rows: Uint8Array, heads: number, headDim: number): Uint8Array {
  const rowBytes = rows.byteLength / (heads * headDim);
  const result = new Uint8Array(rows.byteLength);
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < headDim; row++) {
      const from = (head * headDim + row) * rowBytes;
      const to = (head * headDim + (row & 1) * (headDim / 2) + (row >> 1)) * rowBytes;
      result.set(rows.subarray(from, from + rowBytes), to);
    }
  }
  return result;
}
