import type { DecoderNames } from '../architecture.js';
import type { FamilySource } from './family.js';

/** Names that Llama gave the parts of a decoder, and most families took over. */
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
  attentionBranchNorm: null,
  mlpNorm: 'post_attention_layernorm',
  gateUp: ['mlp.gate_proj', 'mlp.up_proj'],
  down: 'mlp.down_proj',
  mlpBranchNorm: null,
  omittedPrefix: '',
};

/**
 * The same names, without the prefix of the whole model where the weight files lack it: OpenAI's own GPT-2 has
 * `wte.weight` for `transformer.wte.weight`, and transformers reads both.
 */
export function namesInFiles(names: DecoderNames, { hasTensor }: Pick<FamilySource, 'hasTensor'>): DecoderNames {
  const prefix = names.embedding.slice(0, names.embedding.indexOf('.') + 1);
  const embedding = `${names.embedding}.weight`;
  const isOmitted = !hasTensor(embedding) && hasTensor(embedding.slice(prefix.length));
  return isOmitted ? { ...names, omittedPrefix: prefix } : names;
}
