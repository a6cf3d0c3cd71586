import type { RopeScaling, RopeSettings } from '../architecture.js';
import type { ConfigFields } from '../config-fields.js';
import { LAYER_TYPES } from './layer-windows.js';

const DEFAULT_THETA = 10_000;

export interface RopeContext {
  headDim: number;
  /** `max_position_embeddings`. */
  maxPositions: number;
  /** Whether the family rotates a part of each head only, when `partial_rotary_factor` says so. */
  partial?: boolean;
  /** Default of `original_max_position_embeddings` at the top of config.json; null: there is none. */
  originalMaxPositions?: number | null;
  /** Types the family takes, by the names its configs have for them; without it all of {@link SCALINGS}. */
  types?: ReadonlyMap<string, RopeType>;
}

type RopeType = 'default' | RopeScaling['type'];

type ReadScaling = (parameters: ConfigFields, context: ScalingContext) => RopeScaling;

interface ScalingContext {
  maxPositions: number;
  /** Positions before the model was made to see further. */
  originalMaxPositions: number;
  /** Pairs of dimensions that rotate. */
  pairs: number;
}

const SCALINGS: Readonly<Record<RopeType, ReadScaling | null>> = {
  default: null,
  linear: (parameters) => ({ type: 'linear', factor: parameters.positiveNumber('factor') }),
  dynamic: readDynamic,
  llama3: readLlama3,
  yarn: readYarn,
  longrope: readLongrope,
};

/**
 * Rotary embedding of a config.json in either of its two forms: `rope_theta` and `rope_scaling` at the top, or both in
 * `rope_parameters` (transformers 5). Where both are given `rope_scaling` wins, as in transformers.
 *
 * @throws ProductError model_not_supported for a type that is not known, and for one rope per kind of layer
 */
export function readRope(config: ConfigFields, context: RopeContext): RopeSettings {
  const own = config.nested('rope_scaling');
  const parameters = own !== undefined && !own.isEmpty ? own : config.nested('rope_parameters');
  for (const type of LAYER_TYPES) {
    if (parameters?.has(type)) throw parameters.unsupported(type, 'is not supported: one rope must serve every layer');
  }
  const source = parameters?.has('rope_theta') ? parameters : config;
  const theta = source.positiveNumber('rope_theta', DEFAULT_THETA);
  const partialRotaryFactor = readPartialFactor(config, parameters, context);
  const pairs = Math.ceil(Math.trunc(context.headDim * partialRotaryFactor) / 2);
  return { theta, partialRotaryFactor, scaling: parameters ? readScaling(config, parameters, context, pairs) : null };
}

/** Positions that a model with this rope is for: those it names, or those that a scaling which names the ones before it leads to. */
export function usablePositions({ scaling }: RopeSettings, maxPositions: number): number {
  switch (scaling?.type) {
    case 'dynamic':
      return Math.max(maxPositions, Math.floor(scaling.factor * scaling.maxPositions));
    case 'yarn':
      return Math.max(maxPositions, Math.floor(scaling.factor * scaling.originalMaxPositions));
    default:
      return maxPositions;
  }
}

function readPartialFactor(config: ConfigFields, parameters: ConfigFields | undefined, context: RopeContext): number {
  for (const fields of [parameters, config]) {
    if (!fields?.has('partial_rotary_factor')) continue;
    const factor = fields.positiveNumber('partial_rotary_factor');
    if (factor === 1) return factor;
    if (!context.partial) {
      throw fields.unsupported('partial_rotary_factor', 'is not supported: all of a head must be rotated');
    }
    if (factor > 1) throw fields.corrupt('partial_rotary_factor', 'must not be above 1');
    if (Math.trunc(context.headDim * factor) < 1) throw fields.corrupt('partial_rotary_factor', 'rotates nothing');
    return factor;
  }
  return 1;
}

function readScaling(
  config: ConfigFields,
  parameters: ConfigFields,
  { maxPositions, originalMaxPositions: original, types }: RopeContext,
  pairs: number,
): RopeScaling | null {
  const typeField = parameters.has('rope_type') ? 'rope_type' : 'type';
  const name = parameters.text(typeField) ?? 'default';
  const known = types ?? new Map(Object.keys(SCALINGS).map((type) => [type, type as RopeType]));
  const type = known.get(name);
  if (type === undefined) {
    throw parameters.unsupported(typeField, `is not supported; ${[...known.keys()].join(', ')} are`);
  }
  // As in transformers the field at the top goes before the one beside the type.
  const atTop = config.has('original_max_position_embeddings') || (original ?? null) !== null;
  const originalMaxPositions = atTop
    ? config.positiveNumber('original_max_position_embeddings', original ?? undefined)
    : parameters.positiveNumber('original_max_position_embeddings', maxPositions);
  return SCALINGS[type]?.(parameters, { maxPositions, originalMaxPositions, pairs }) ?? null;
}

function readDynamic(parameters: ConfigFields, { maxPositions, pairs }: ScalingContext): RopeScaling {
  // The base grows by a power of dimensions / (dimensions - 2).
  if (pairs < 2) throw parameters.unsupported('rope_type', 'is not supported for heads that rotate two dimensions');
  return { type: 'dynamic', factor: parameters.positiveNumber('factor'), maxPositions };
}

function readLlama3(parameters: ConfigFields, { originalMaxPositions }: ScalingContext): RopeScaling {
  const scaling = {
    type: 'llama3',
    factor: parameters.positiveNumber('factor'),
    lowFreqFactor: parameters.positiveNumber('low_freq_factor'),
    highFreqFactor: parameters.positiveNumber('high_freq_factor'),
    originalMaxPositions,
  } as const;
  // The blend divides by their difference.
  if (scaling.highFreqFactor <= scaling.lowFreqFactor) {
    throw parameters.corrupt('high_freq_factor', 'must be above low_freq_factor');
  }
  return scaling;
}

function readYarn(parameters: ConfigFields, { maxPositions, originalMaxPositions }: ScalingContext): RopeScaling {
  const factor = parameters.positiveNumber('factor', maxPositions / originalMaxPositions);
  /** 0 counts as absent, as in transformers. */
  const orDefault = (field: string, fallback: number) => parameters.number(field, 0) || fallback;
  const magnitude = (share: number) => (factor <= 1 ? 1 : 0.1 * share * Math.log(factor) + 1);
  const mscale = parameters.number('mscale', 0);
  const mscaleAllDim = parameters.number('mscale_all_dim', 0);
  const inferred = mscale !== 0 && mscaleAllDim !== 0 ? magnitude(mscale) / magnitude(mscaleAllDim) : magnitude(1);
  return {
    type: 'yarn',
    factor,
    originalMaxPositions,
    betaFast: orDefault('beta_fast', 32),
    betaSlow: orDefault('beta_slow', 1),
    truncate: parameters.flag('truncate', !parameters.isNull('truncate')),
    attentionFactor: parameters.positiveNumber('attention_factor', inferred),
  };
}

function readLongrope(parameters: ConfigFields, context: ScalingContext): RopeScaling {
  const { maxPositions, originalMaxPositions, pairs } = context;
  const factor = parameters.positiveNumber('factor', maxPositions / originalMaxPositions);
  const inferred = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalMaxPositions));
  return {
    type: 'longrope',
    shortFactors: parameters.positiveNumbers('short_factor', pairs),
    longFactors: parameters.positiveNumbers('long_factor', pairs),
    originalMaxPositions,
    attentionFactor: parameters.positiveNumber('attention_factor', inferred),
  };
}
