/**
 * The matrices A and B of an adapted linear layer, or of an adapted parameter of experts, in float32. The weight update is
 * `scale · B A`, of each expert with its own A and B.
 */
export interface PeftModule {
  /** `[rank, inFeatures]`; of experts `[experts, rank, inFeatures]` */
  a: Float32Array;
  /** `[outFeatures, rank]`; of experts `[experts, outFeatures, rank]` */
  b: Float32Array;
  rank: number;
  /** The module's `alpha / rank`, or with rsLoRA `alpha / √rank`. */
  scale: number;
  /** The inputs of a layer, or of each expert. */
  inFeatures: number;
  /** The outputs of a layer, or of each expert. */
  outFeatures: number;
  /** The number of experts of a parameter; undefined for a linear layer. */
  experts?: number | undefined;
}

/** The matrices of one expert of a parameter, in the same memory. */
export function ofExpert({ a, b, experts, ...sizes }: PeftModule, expert: number): PeftModule {
  const of = (all: Float32Array) => {
    const size = all.length / experts!;
    return all.subarray(expert * size, (expert + 1) * size);
  };
  return { ...sizes, a: of(a), b: of(b) };
}

/** The rank and the sizes of a module. */
export type PeftSizes = Pick<PeftModule, 'rank' | 'inFeatures' | 'outFeatures' | 'experts'>;

/** A LoRA adapter in memory. Ranks and scales are resolved per module. */
export interface PeftAdapter {
  dropout: number;
  /**
   * Layers by full name, for instance `model.layers.0.self_attn.q_proj`, and the parameters of experts by theirs, for instance
   * `model.layers.0.mlp.experts.down_proj`.
   */
  modules: Map<string, PeftModule>;
  /** The field `base_model_name_or_path`, unchanged. */
  baseModelNameOrPath: string | null;
}

const MAX_NAME_CHARACTERS = 200;
const MAX_TEXT_CHARACTERS = 120;

/** Shortens a name from a file for messages. */
export function shownName(name: string): string {
  return name.slice(0, MAX_NAME_CHARACTERS);
}

/** Shortens a value of a config for messages. Lists and objects are not printed, since their nesting has no limit. */
export function shownValue(value: unknown): string {
  if (value === undefined) return 'missing';
  if (typeof value === 'string') return JSON.stringify(value.slice(0, MAX_TEXT_CHARACTERS));
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}
