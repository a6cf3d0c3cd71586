import type { RopeScaling, RopeSettings } from '../architecture.js';
import type { ConfigFields } from './config-fields.js';
import { LAYER_TYPES, type LayerType } from './layer-windows.js';

const DEFAULT_THETA = 10_000;

export interface RopeContext {
  headDim: number;
  /** `max_position_embeddings`. */
  maxPositions: number;
  /** @defaultValue 10,000 */
  theta?: number;
  /** Default of `partial_rotary_factor`, if the family can rotate a part of each head only. */
  partialRotaryFactor?: number;
  /** @defaultValue false */
  interleaved?: boolean;
  /** Default of the top-level field `original_max_position_embeddings`; null: no default. */
  originalMaxPositions?: number | null;
  /** The types that the family supports, by their names in its configs. @defaultValue all of {@link SCALINGS} */
  types?: ReadonlyMap<string, RopeType>;
}

/** The types that several families have. */
type RopeType = 'default' | Exclude<RopeScaling['type'], 'proportional'>;

type ReadScaling = (parameters: ConfigFields, context: ScalingContext) => RopeScaling;

interface ScalingContext {
  maxPositions: number;
  /** The maximum positions before the context was extended. */
  originalMaxPositions: number;
  /** The number of pairs of dimensions that rotate. */
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
 * Reads the RoPE settings of a config.json in either form: `rope_theta` and `rope_scaling` at the top level, or both in
 * `rope_parameters` (transformers 5). If both forms are present, `rope_scaling` takes precedence, as in transformers.
 *
 * @throws ProductError model_not_supported for an unknown type, and for settings that differ between types of layers
 */
export function readRope(config: ConfigFields, context: RopeContext): RopeSettings {
  const parameters = ropeParameters(config);
  for (const type of LAYER_TYPES) {
    if (parameters?.has(type))
      throw parameters.unsupported(type, 'is not supported: all layers must have the same RoPE settings');
  }
  const source = parameters?.has('rope_theta') ? parameters : config;
  return ropeOf(config, parameters, source.positiveNumber('rope_theta', context.theta ?? DEFAULT_THETA), context);
}

/** The field with the scaling: `rope_scaling`, or `rope_parameters` of transformers 5. */
export function ropeParameters(config: ConfigFields): ConfigFields | undefined {
  const own = config.nested('rope_scaling');
  return own !== undefined && !own.isEmpty ? own : config.nested('rope_parameters');
}

/** The magnitude that YaRN gives queries and keys (arXiv:2309.00071); `share`: `mscale`, or `mscale_all_dim`, of the config. */
export function yarnMagnitude(factor: number, share: number): number {
  return factor <= 1 ? 1 : 0.1 * share * Math.log(factor) + 1;
}

/** The base of the frequencies of each type of layer: its field next to `rope_scaling`, if it has one, and its default. */
export type ThetaByType = Readonly<Record<LayerType, { field: string | null; fallback: number }>>;

/**
 * Reads RoPE settings that differ between the types of layers: both in `rope_parameters` by type (transformers 5), or
 * `rope_scaling` for full attention only and a theta for each.
 *
 * @returns the settings of each layer, one object per type
 * @throws ProductError model_not_supported for an unknown type
 */
export function readRopesByType(
  config: ConfigFields,
  context: RopeContext,
  types: readonly LayerType[],
  thetas: ThetaByType,
): RopeSettings[] {
  const byType = config.nested('rope_parameters');
  const common = ['rope_type', 'type', 'rope_theta'].find((field) => byType?.has(field));
  if (common !== undefined) throw byType!.unsupported(common, `is not supported; ${LAYER_TYPES.join(' and ')} are`);
  const own = config.nested('rope_scaling');
  const ropeOfType = (type: LayerType) => {
    const named = byType?.nested(type);
    const parameters = type === 'full_attention' && own !== undefined && !own.isEmpty ? own : named;
    const { field, fallback } = thetas[type];
    const within = [parameters, named].find((fields) => fields?.has('rope_theta'));
    const theta = within?.positiveNumber('rope_theta') ?? (field ? config.positiveNumber(field, fallback) : fallback);
    return ropeOf(config, parameters, theta, context);
  };
  const ropes = { full_attention: ropeOfType('full_attention'), sliding_attention: ropeOfType('sliding_attention') };
  return types.map((type) => ropes[type]);
}

function ropeOf(
  config: ConfigFields,
  parameters: ConfigFields | undefined,
  theta: number,
  context: RopeContext,
): RopeSettings {
  const partialRotaryFactor = readPartialFactor(config, parameters, context);
  const pairs = Math.ceil(Math.trunc(context.headDim * partialRotaryFactor) / 2);
  const scaling = parameters ? readScaling(config, parameters, context, pairs) : null;
  return { theta, partialRotaryFactor, interleaved: context.interleaved ?? false, scaling };
}

/** The maximum positions with this scaling. Dynamic and YaRN scaling multiply the original ones, if that is more. */
export function usablePositions(rope: RopeSettings | null, maxPositions: number): number {
  const scaling = rope?.scaling;
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
    if (context.partialRotaryFactor === undefined) {
      throw fields.unsupported('partial_rotary_factor', 'is not supported: the family rotates complete heads');
    }
    if (factor > 1) throw fields.corrupt('partial_rotary_factor', 'must not be above 1');
    if (Math.trunc(context.headDim * factor) < 1) throw fields.corrupt('partial_rotary_factor', 'rotates nothing');
    return factor;
  }
  return context.partialRotaryFactor ?? 1;
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
  // As in transformers, the top-level field takes precedence over the nested one.
  const atTop = config.has('original_max_position_embeddings') || (original ?? null) !== null;
  const originalMaxPositions = atTop
    ? config.positiveNumber('original_max_position_embeddings', original ?? undefined)
    : parameters.positiveNumber('original_max_position_embeddings', maxPositions);
  return SCALINGS[type]?.(parameters, { maxPositions, originalMaxPositions, pairs }) ?? null;
}

function readDynamic(parameters: ConfigFields, { maxPositions, pairs }: ScalingContext): RopeScaling {
  // The base grows with the exponent dimensions / (dimensions - 2).
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
  /** The value, or the default for 0, which counts as absent in transformers. */
  const orDefault = (field: string, fallback: number) => parameters.number(field, 0) || fallback;
  const mscale = parameters.number('mscale', 0);
  const mscaleAllDim = parameters.number('mscale_all_dim', 0);
  const inferred =
    mscale !== 0 && mscaleAllDim !== 0
      ? yarnMagnitude(factor, mscale) / yarnMagnitude(factor, mscaleAllDim)
      : yarnMagnitude(factor, 1);
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
