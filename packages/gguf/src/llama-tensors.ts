import { ProductError } from '@lorasmith/contracts';
import type { GgufTensor } from './gguf-header.js';
import type { LlamaSettings } from './llama-config.js';

/** A tensor of the Hugging Face folder and where it comes from. */
export interface TensorPlan {
  /** Name in the folder. */
  name: string;
  source: GgufTensor;
  /** Heads whose rows have to be put back into order; null where the order is the same. */
  permutedHeads: number | null;
}

/** Names outside the layers. */
const TOP_NAMES: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
};

/** Modules of a layer by their GGUF name. */
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

/** Turned into rope_scaling; see rope-factors.ts. */
export const ROPE_FACTORS = 'rope_freqs.weight';

/**
 * Names every tensor as transformers does.
 *
 * @throws ProductError model_not_supported for a tensor of no known name
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

/** Queries and keys are stored for a rotation of neighbouring rows instead of one of halves. */
function permutedHeads(module: string, settings: LlamaSettings): number | null {
  if (module === 'attn_q') return settings.headCount;
  if (module === 'attn_k') return settings.keyValueHeadCount;
  return null;
}

/**
 * Undoes the permutation of llama.cpp's converter: of each head, row 2j + s goes to s · headDim/2 + j.
 *
 * @param rows bytes of a matrix [heads · headDim, …] or of a bias
 * @returns a copy in the order of transformers
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
