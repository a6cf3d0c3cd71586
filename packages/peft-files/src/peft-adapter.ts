/** A and B of one adapted linear layer, in float32. Its update is `scale · B A`. */
export interface PeftModule {
  /** `[rank, inFeatures]` */
  a: Float32Array;
  /** `[outFeatures, rank]` */
  b: Float32Array;
  rank: number;
  /** `alpha / rank`, or with rsLoRA `alpha / √rank`, of this module. */
  scale: number;
  inFeatures: number;
  outFeatures: number;
}

/** A LoRA adapter in memory, whichever way its file spelled ranks and scales. */
export interface PeftAdapter {
  dropout: number;
  /** By the full name of the layer, for instance `model.layers.0.self_attn.q_proj`. */
  modules: Map<string, PeftModule>;
  /** What the file names as its base, as it stands there. */
  baseModelNameOrPath: string | null;
}
