/**
 * The module paths of a decoder's parts, as in transformers and PEFT. Paths from `attentionNorm` to `mlpBranchNorm` are
 * relative to a layer. A part that the family lacks is null.
 */
export interface DecoderNames {
  embedding: string;
  /** The learned position embedding. */
  positions: string | null;
  /** A layer is at `<layers>.<index>`. */
  layers: string;
  finalNorm: string;
  head: string;
  /** Norm of what the attention reads. */
  attentionNorm: string | null;
  /**
   * Query, key and value projections; a single path if they are fused. Of latent attention the projections to its latents, or to
   * queries.
   */
  queryKeyValue: readonly string[];
  /** Norms of the queries and keys. */
  queryNorm: string | null;
  keyNorm: string | null;
  attentionOutput: string;
  /** The attention sinks, in no module of their own; null where there are none. */
  sinks: string | null;
  /** Norm of the attention output, before it is added to the residual stream. */
  attentionBranchNorm: string | null;
  /** Norm of what the MLP reads. */
  mlpNorm: string | null;
  /** Gate and up projections; a single path if they are fused or there is no gate. */
  gateUp: readonly string[];
  down: string;
  /** Norm of the MLP output, before it is added to the residual stream. */
  mlpBranchNorm: string | null;
  /** The parts of latent attention. @defaultValue no layer has it */
  latentAttention?: LatentAttentionNames | undefined;
  /** The parts of linear attention. @defaultValue no layer has it */
  linearAttention?: LinearAttentionNames | undefined;
  /** The parts of layer inputs; null where layers have none. */
  layerInputs: LayerInputNames | null;
  /** The parts of sparse layers; null where there is none. */
  experts: ExpertNames | null;
  /** The tensor with the factor of a layer's output, in no module of its own; null where there is none. */
  layerScale: string | null;
  /** Prefixes of module paths that the tensor names lack: a path that starts with `modules` starts with `files` there. */
  prefixes: readonly { modules: string; files: string }[];
}

/** The module paths of latent attention's parts, relative to a layer. Its input projections are those of `queryKeyValue`. */
export interface LatentAttentionNames {
  /** Norm of the latent of queries, and the projection of that to queries; null: there is no such latent. */
  query: { norm: string; projection: string } | null;
  /** Norm of the latent of keys and values, and the projection of that to both. */
  keyValue: { norm: string; projection: string };
}

/** The module paths of linear attention's parts, relative to a layer. */
export interface LinearAttentionNames {
  /**
   * Projections of what the convolution reads (queries, keys, values), of the gate of the output, of β and of the decay; two paths if
   * the first two are fused and the last two, by key head.
   */
  inputs:
    | readonly [mixed: string, gate: string, beta: string, decay: string]
    | readonly [mixedAndGate: string, betaAndDecay: string];
  convolution: string;
  /** Tensors that are in no module of their own. */
  decayLog: string;
  timeStepBias: string;
  /** Norm of each head's output. */
  norm: string;
  output: string;
}

/** The module paths of the parts of layer inputs. Those from `gate` on are relative to a layer. */
export interface LayerInputNames {
  /** The embeddings of all layers, `[vocab, layers × size]`. */
  embedding: string;
  /** Projection of the embedded token to the inputs of all layers. */
  projection: string;
  /** Norm of each layer's part of the projection. */
  norm: string;
  gate: string;
  output: string;
  /** Norm of the output, before it is added to the residual stream. */
  branchNorm: string;
}

/** The module paths of a sparse layer's parts, relative to a layer. */
export interface ExpertNames {
  /** Its weight has a row for each expert. */
  router: string;
  /**
   * The experts of a layer. Their parameters are `<experts>.gate_up_proj` and `<experts>.down_proj`, and so are fused tensors, whose biases
   * end in `_bias`, and in MXFP4 their codes in `_blocks` and their scales in `_scales`. Each by itself, their tensors are
   * `<experts>.<index>.gate_proj.weight`, `.up_proj.weight` and `.down_proj.weight`.
   */
  experts: string;
  /** Their tensors where the files have those of a layer in one: of gate and up, and of down; null: they have the parameters' names. */
  fused: readonly [gateUp: string, down: string] | null;
  /** The expert that all tokens pass, and the layer of its gate where it has one; null: there is none. */
  shared: { gateUp: readonly string[]; down: string; gate: string | null } | null;
  /** The correction of the router's scores, in no module of its own; null: there is none. */
  correction: string | null;
  /** The parts of experts in parallel with the layer's MLP; null: experts replace it. Digests of architectures have this key. */
  beside: ParallelMlpNames | null;
}

/**
 * The module paths that experts in parallel with an MLP add. Both read the residual stream by a norm of their own and have one of what
 * they give, before the sum of both is normed.
 */
export interface ParallelMlpNames {
  /** Norm of what the experts read; that of the MLP is `mlpNorm`. */
  norm: string;
  branchNorm: string;
  mlpBranchNorm: string;
  /** Tensors that are in no module of their own: the weights of the router's norm, and the factor of each expert's weight. */
  routerScale: string;
  expertScales: string;
}

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
export function namesInFiles(names: DecoderNames, { hasTensor }: { hasTensor(name: string): boolean }): DecoderNames {
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
