import type { RopeSettings } from '../architecture.js';
import type { ConfigFields } from '../config-fields.js';

const DEFAULT_THETA = 10_000;

/**
 * Rotary embedding of a config.json in either of its two forms: `rope_theta` and `rope_scaling` at the top, or both in
 * `rope_parameters` (transformers 5). Where both are given `rope_scaling` wins, as in transformers.
 *
 * @throws ProductError model_not_supported for a type other than `default` and `llama3`
 */
export function readRope(config: ConfigFields): RopeSettings {
  const parameters = config.nested('rope_scaling') ?? config.nested('rope_parameters');
  const source = parameters?.has('rope_theta') ? parameters : config;
  const theta = source.positiveNumber('rope_theta', DEFAULT_THETA);
  for (const fields of [config, parameters]) {
    if (fields?.has('partial_rotary_factor') && fields.value('partial_rotary_factor') !== 1) {
      throw fields.unsupported('partial_rotary_factor', 'is not supported: all of a head must be rotated');
    }
  }
  return { theta, scaling: parameters ? readScaling(parameters) : null };
}

function readScaling(parameters: ConfigFields): RopeSettings['scaling'] {
  const typeField = parameters.has('rope_type') ? 'rope_type' : 'type';
  const type = parameters.text(typeField) ?? 'default';
  if (type === 'default') return null;
  if (type !== 'llama3') throw parameters.unsupported(typeField, 'is not supported; "default" and "llama3" are');
  const scaling = {
    type,
    factor: parameters.positiveNumber('factor'),
    lowFreqFactor: parameters.positiveNumber('low_freq_factor'),
    highFreqFactor: parameters.positiveNumber('high_freq_factor'),
    originalMaxPositions: parameters.positiveNumber('original_max_position_embeddings'),
  } as const;
  // The blend divides by their difference.
  if (scaling.highFreqFactor <= scaling.lowFreqFactor) {
    throw parameters.corrupt('high_freq_factor', 'must be above low_freq_factor');
  }
  return scaling;
}
