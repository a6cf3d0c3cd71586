import type { DecoderArchitecture } from '../architecture.js';
import type { FamilySource } from './family.js';
import { readRope } from './rope.js';

/** More layers than any model has; each one is a dozen entries in memory. */
const MAX_LAYERS = 1_000;

export interface DecoderDefaults {
  /** The `…ForCausalLM` of `architectures`. */
  causalLm: string;
  maxPositions: number;
  bosTokenId: number | null;
  eosTokenIds: number[];
}

/**
 * The fields that llama-like decoders share. Sizes must be given; the rest has the defaults of transformers.
 *
 * @throws ProductError model_file_corrupt, model_not_supported
 */
export function readDecoderConfig(
  { config, generation }: FamilySource,
  defaults: DecoderDefaults,
): Omit<DecoderArchitecture, 'family' | 'bias'> {
  const architectures = config.value('architectures');
  if (Array.isArray(architectures) && !architectures.includes(defaults.causalLm)) {
    throw config.unsupported('architectures', `is not supported; ${defaults.causalLm} is`);
  }
  const activation = config.text('hidden_act') ?? 'silu';
  if (activation !== 'silu' && activation !== 'swish')
    throw config.unsupported('hidden_act', 'is not supported; "silu" is');

  const vocabSize = config.size('vocab_size');
  const hiddenSize = config.size('hidden_size');
  const headCount = config.size('num_attention_heads');
  const keyValueHeadCount = config.size('num_key_value_heads', { fallback: headCount });
  if (headCount % keyValueHeadCount !== 0) {
    throw config.corrupt(
      'num_key_value_heads',
      `${keyValueHeadCount} does not divide num_attention_heads ${headCount}`,
    );
  }
  if (!config.has('head_dim') && hiddenSize % headCount !== 0) {
    throw config.corrupt('hidden_size', `${hiddenSize} is not a multiple of num_attention_heads ${headCount}`);
  }
  const headDim = config.has('head_dim') ? config.size('head_dim') : hiddenSize / headCount;
  if (headDim % 2 !== 0) throw config.corrupt('head_dim', `${headDim} is odd; positions rotate pairs`);

  return {
    kind: 'decoder',
    vocabSize,
    hiddenSize,
    intermediateSize: config.size('intermediate_size'),
    layerCount: config.size('num_hidden_layers', { max: MAX_LAYERS }),
    headCount,
    keyValueHeadCount,
    headDim,
    normEpsilon: config.positiveNumber('rms_norm_eps', 1e-6),
    rope: readRope(config),
    tiedHead: config.flag('tie_word_embeddings', false),
    maxPositions: config.size('max_position_embeddings', { fallback: defaults.maxPositions, max: 2 ** 31 - 1 }),
    ...readTokenIds({ config, generation }, vocabSize, defaults),
  };
}

/** What generation_config.json names ends a text too: chat models keep their end-of-turn token there. */
function readTokenIds(
  { config, generation }: Pick<FamilySource, 'config' | 'generation'>,
  vocabSize: number,
  defaults: DecoderDefaults,
): Pick<DecoderArchitecture, 'bosTokenId' | 'eosTokenIds' | 'padTokenId'> {
  const withinVocabulary = (ids: number[]) => ids.filter((id) => id < vocabSize);
  const eosTokenIds = [
    ...(config.has('eos_token_id')
      ? config.tokenIds('eos_token_id', vocabSize)
      : withinVocabulary(defaults.eosTokenIds)),
    ...(generation?.tokenIds('eos_token_id', vocabSize) ?? []),
  ];
  const bos = config.has('bos_token_id')
    ? config.tokenIds('bos_token_id', vocabSize)
    : withinVocabulary(defaults.bosTokenId === null ? [] : [defaults.bosTokenId]);
  // Older configs write -1, or an id that was never added, for "none".
  const pad = config.value('pad_token_id') ?? generation?.value('pad_token_id');
  const hasPad = Number.isSafeInteger(pad) && (pad as number) >= 0 && (pad as number) < vocabSize;
  return {
    bosTokenId: bos[0] ?? null,
    eosTokenIds: [...new Set(eosTokenIds)],
    padTokenId: hasPad ? (pad as number) : null,
  };
}
