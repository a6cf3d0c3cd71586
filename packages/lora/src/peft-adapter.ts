/** A and B of one adapted linear layer, in float32. Its update is `(alpha / r) B A`, with alpha and r of the adapter. */
export interface PeftModule {
  /** `[rank, inFeatures]` */
  a: Float32Array;
  /** `[outFeatures, rank]` */
  b: Float32Array;
  /** At most the adapter's `r`; less only in an adapter read with a `rank_pattern`. */
  rank: number;
  inFeatures: number;
  outFeatures: number;
}

/** A LoRA adapter in memory, whichever way its file spelled the scale. */
export interface PeftAdapter {
  /** The greatest rank of a module. */
  r: number;
  /** True alpha: the scale of every module is `alpha / r`, rsLoRA and patterns already folded in. */
  alpha: number;
  dropout: number;
  /** By the full name of the layer, for instance `model.layers.0.self_attn.q_proj`. */
  modules: Map<string, PeftModule>;
  /** What the file names as its base, as it stands there. */
  baseModelNameOrPath: string | null;
}

/**
 * The alpha to write for an adapter trained with these settings: `alpha / r`, or with rsLoRA `alpha / √r`
 * (arXiv:2312.03732), is the returned number divided by `r`.
 */
export function trueAlpha(settings: { r: number; alpha: number; use_rslora: boolean }): number {
  return settings.use_rslora ? settings.alpha * Math.sqrt(settings.r) : settings.alpha;
}

/**
 * The same module with rows of zeros added to A and columns of zeros to B: B A does not change, and readers that
 * ignore `rank_pattern` find the one rank they expect.
 */
export function padRank(module: PeftModule, rank: number): PeftModule {
  if (module.rank === rank) return module;
  const a = new Float32Array(rank * module.inFeatures);
  a.set(module.a);
  const b = new Float32Array(module.outFeatures * rank);
  for (let row = 0; row < module.outFeatures; row++) {
    b.set(module.b.subarray(row * module.rank, (row + 1) * module.rank), row * rank);
  }
  return { ...module, a, b, rank };
}
