/** The matrices A and B of an adapted linear layer, in float32. The weight update is `scale · B A`. */
export interface PeftModule {
  /** `[rank, inFeatures]` */
  a: Float32Array;
  /** `[outFeatures, rank]` */
  b: Float32Array;
  rank: number;
  /** The module's `alpha / rank`, or with rsLoRA `alpha / √rank`. */
  scale: number;
  inFeatures: number;
  outFeatures: number;
}

/** A LoRA adapter in memory. Ranks and scales are resolved per module. */
export interface PeftAdapter {
  dropout: number;
  /** Layers by full name, for instance `model.layers.0.self_attn.q_proj`. */
  modules: Map<string, PeftModule>;
  /** The field `base_model_name_or_path`, unchanged. */
  baseModelNameOrPath: string | null;
}
