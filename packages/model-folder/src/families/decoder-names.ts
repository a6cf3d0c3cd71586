import type { DecoderNames } from '../architecture.js';
import type { FamilySource } from './family.js';

/** The names of a decoder's parts in Llama and most other families. */
export const LLAMA_NAMES: DecoderNames = {
  embedding: 'model.embed_tokens',
  positions: null,
  layers: 'model.layers',
  finalNorm: 'model.norm',
  head: 'lm_head',
  attentionNorm: 'input_layernorm',
  queryKeyValue: ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'],
  queryNorm: null,
  keyNorm: null,
  attentionOutput: 'self_attn.o_proj',
  sinks: null,
  attentionBranchNorm: null,
  mlpNorm: 'post_attention_layernorm',
  gateUp: ['mlp.gate_proj', 'mlp.up_proj'],
  down: 'mlp.down_proj',
  mlpBranchNorm: null,
  layerInputs: null,
  experts: null,
  layerScale: null,
  prefixes: [],
};

/** Llama's names, with latent attention. */
export const LATENT_NAMES: DecoderNames = {
  ...LLAMA_NAMES,
  queryKeyValue: ['self_attn.q_a_proj', 'self_attn.kv_a_proj_with_mqa'],
  latentAttention: {
    query: { norm: 'self_attn.q_a_layernorm', projection: 'self_attn.q_b_proj' },
    keyValue: { norm: 'self_attn.kv_a_layernorm', projection: 'self_attn.kv_b_proj' },
  },
};

/** Llama's names, with norms of queries and keys, and with norms after attention and MLP instead of before them. */
export const POST_NORM_NAMES: DecoderNames = {
  ...LLAMA_NAMES,
  attentionNorm: null,
  queryNorm: 'self_attn.q_norm',
  keyNorm: 'self_attn.k_norm',
  attentionBranchNorm: 'post_attention_layernorm',
  mlpNorm: null,
  mlpBranchNorm: 'post_feedforward_layernorm',
};

/**
 * Drops the model's prefix if the tensor names lack it: OpenAI's GPT-2 has `wte.weight` instead of
 * `transformer.wte.weight`. transformers reads both.
 */
export function namesInFiles(names: DecoderNames, { hasTensor }: Pick<FamilySource, 'hasTensor'>): DecoderNames {
  const prefix = names.embedding.slice(0, names.embedding.indexOf('.') + 1);
  const embedding = `${names.embedding}.weight`;
  const isOmitted = !hasTensor(embedding) && hasTensor(embedding.slice(prefix.length));
  return isOmitted ? { ...names, prefixes: [{ modules: prefix, files: '' }] } : names;
}

/** The name in the weight files of a tensor whose path is relative to a layer. */
export function tensorOfLayer(names: DecoderNames, layer: number, path: string): string {
  return tensorName(names, `${names.layers}.${layer}.${path}`);
}

/** The name of a tensor in the weight files; `path` is the module path with `.weight` or `.bias`. */
export function tensorName({ prefixes }: DecoderNames, path: string): string {
  const prefix = prefixes.find(({ modules }) => path.startsWith(modules));
  return prefix === undefined ? path : `${prefix.files}${path.slice(prefix.modules.length)}`;
}
