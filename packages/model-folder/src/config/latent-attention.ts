import type { DecoderArchitecture, LatentAttention, ScoredAttention } from '../architecture.js';
import type { FamilySource } from '../families/family.js';
import type { ConfigFields } from './config-fields.js';
import { attentionBias, type DecoderDefaults, readDecoderConfig } from './decoder-config.js';
import { ropeParameters, yarnMagnitude } from './rope.js';

/** A family's values for missing fields, as in transformers. */
export interface LatentDefaults extends Omit<DecoderDefaults, 'headDim' | 'ownHeadDim' | 'readRopes'> {
  latent: Omit<LatentSizes, 'normEpsilon'>;
  /** True if rotary settings are of a whole head, of which positions rotate a part. @defaultValue false: they are of that part */
  ropeOfWholeHead?: boolean;
}

type LatentSizes = Omit<LatentAttention, 'kind' | keyof ScoredAttention>;

/** The default of transformers' norms: no config changes it. */
const NORM_EPSILON = 1e-6;

/** The kernels of the CUDA engine take heads of a multiple of this size. */
const HEAD_STEP = 4;

/**
 * Reads a decoder with latent attention, in DeepSeek's fields. Its experts are the family's to read.
 *
 * @throws ProductError model_file_corrupt, model_not_supported
 */
export function readLatentDecoder(
  source: FamilySource,
  { latent, ropeOfWholeHead = false, ...defaults }: LatentDefaults,
): DecoderArchitecture {
  const { config } = source;
  const own = readLatentAttention(config, latent);
  const bias = attentionBias(config);
  if (own.queryRank === null && bias.queryKeyValue) {
    throw config.unsupported('attention_bias', 'is not supported without q_lora_rank');
  }
  const names = own.queryRank === null ? withoutQueryLatent(defaults.names) : defaults.names;
  const interleaved = config.flag('rope_interleave', true);
  const whole = own.plainDim + own.rotaryDim;
  const ofRope = ropeOfWholeHead
    ? { headDim: whole, partialRotaryFactor: own.rotaryDim / whole }
    : { headDim: own.rotaryDim };
  const rope = { ...defaults.rope, ...ofRope, interleaved };
  const decoder = readDecoderConfig(source, { ...defaults, names, ownHeadDim: headDimOf(own), rope });
  const { headCount, keyValueHeadCount } = decoder;
  if (keyValueHeadCount !== headCount) {
    const what = `${keyValueHeadCount} is not num_attention_heads ${headCount}: each head has its own keys`;
    throw config.corrupt('num_key_value_heads', what);
  }
  const rotated = decoder.ropes.map((one) => Math.trunc(rope.headDim * (one?.partialRotaryFactor ?? 0)));
  if (rotated.some((count) => count !== own.rotaryDim)) {
    throw config.corrupt('rope_parameters', `must turn the ${own.rotaryDim} numbers of qk_rope_head_dim`);
  }
  // All layers have the same rotary settings.
  const mixer = { kind: 'latent', scale: scaleOf(config, own), window: null, rope: 0, ...own } as const;
  return {
    ...decoder,
    // From here on, settings are of the part that rotates.
    ropes: decoder.ropes.map((one) => one && { ...one, partialRotaryFactor: 1 }),
    layers: decoder.layers.map((layer) => ({ ...layer, mixer })),
    bias: { ...decoder.bias, ...bias },
  };
}

function readLatentAttention(config: ConfigFields, defaults: LatentDefaults['latent']): LatentSizes {
  const rotaryDim = config.size('qk_rope_head_dim', { fallback: defaults.rotaryDim });
  if (rotaryDim % 2 !== 0) {
    throw config.corrupt('qk_rope_head_dim', `${rotaryDim} is odd, but RoPE rotates pairs of dimensions`);
  }
  return {
    queryRank: config.sizeOrNull('q_lora_rank', defaults.queryRank),
    keyValueRank: config.size('kv_lora_rank', { fallback: defaults.keyValueRank }),
    plainDim: config.size('qk_nope_head_dim', { fallback: defaults.plainDim }),
    rotaryDim,
    valueDim: config.size('v_head_dim', { fallback: defaults.valueDim }),
    normEpsilon: NORM_EPSILON,
  };
}

/** The size that queries, keys and values are padded to. */
function headDimOf({ plainDim, rotaryDim, valueDim }: LatentSizes): number {
  return HEAD_STEP * Math.ceil(Math.max(plainDim + rotaryDim, valueDim) / HEAD_STEP);
}

/** The factor of the scores: a scaled rope with `mscale_all_dim` changes it, as in transformers. */
function scaleOf(config: ConfigFields, { plainDim, rotaryDim }: LatentSizes): number {
  const usual = (plainDim + rotaryDim) ** -0.5;
  const parameters = ropeParameters(config);
  const type = parameters?.text('rope_type') ?? parameters?.text('type') ?? 'default';
  const share = parameters?.number('mscale_all_dim', 0) ?? 0;
  if (parameters === undefined || type === 'default' || share === 0) return usual;
  return usual * yarnMagnitude(parameters.positiveNumber('factor'), share) ** 2;
}

function withoutQueryLatent(names: DecoderDefaults['names']): DecoderDefaults['names'] {
  const [, keyValue] = names.queryKeyValue as [string, string];
  return {
    ...names,
    queryKeyValue: ['self_attn.q_proj', keyValue],
    latentAttention: { ...names.latentAttention!, query: null },
  };
}
