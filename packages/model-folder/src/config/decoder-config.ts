import type { DecoderArchitecture, RopeSettings } from '../architecture.js';
import { type DecoderNames, namesInFiles } from '../decoder-names.js';
import type { FamilySource } from '../families/family.js';
import { type ConfigFields, readActivation } from './config-fields.js';
import { type RopeContext, readRope, usablePositions } from './rope.js';

/** Far above the layers of any known model. Each layer takes a dozen entries in memory. */
const MAX_LAYERS = 1_000;
const MAX_POSITIONS = 2 ** 31 - 1;

/** A family's values for missing fields, as in transformers. */
export interface DecoderDefaults {
  family: string;
  /** The `…ForCausalLM` of `architectures`. */
  causalLm: string;
  names: DecoderNames;
  maxPositions: number;
  bosTokenId: number | null;
  eosTokenIds: number[];
  /** @defaultValue required */
  vocabSize?: number;
  /** @defaultValue required */
  intermediateSize?: number;
  /** @defaultValue required */
  headCount?: number;
  /** @defaultValue rms_norm_eps, 1e-6 */
  normEpsilon?: { field?: string; fallback: number };
  /** @defaultValue num_attention_heads */
  keyValueHeadCount?: number;
  /** @defaultValue hidden_size / num_attention_heads */
  headDim?: number;
  /** The size of a head, whatever `head_dim` says. @defaultValue head_dim */
  ownHeadDim?: number;
  /** @defaultValue hidden_act, "silu" */
  activation?: { field: string; fallback: string };
  /** @defaultValue false */
  tiedHead?: boolean;
  /** The fields that set a dropout. @defaultValue attention_dropout, 0 */
  dropout?: { fields: readonly string[]; fallback: number };
  /** `headDim`: the dimensions that its settings are of. @defaultValue those of a head */
  rope?: Omit<RopeContext, 'headDim' | 'maxPositions'> & { headDim?: number };
  /** The rotary settings of each layer. @defaultValue {@link readRope} in all */
  readRopes?: (context: RopeContext) => readonly (RopeSettings | null)[];
}

/**
 * Reads the fields that Llama-like decoders share. The result has Llama's structure: gated MLP, RMS norms, no biases, and no
 * attention window. Sizes are required; other fields have the defaults of transformers.
 *
 * @throws ProductError model_file_corrupt, model_not_supported
 */
export function readDecoderConfig(source: FamilySource, defaults: DecoderDefaults): DecoderArchitecture {
  const { config } = source;
  checkCausalLm(source, defaults.causalLm);
  const vocabSize = config.size('vocab_size', { fallback: defaults.vocabSize });
  const hiddenSize = config.size('hidden_size');
  const headCount = config.size('num_attention_heads', { fallback: defaults.headCount });
  const layerCount = readLayerCount(source, 'num_hidden_layers');
  const keyValueHeadCount = config.isNull('num_key_value_heads')
    ? headCount
    : config.size('num_key_value_heads', { fallback: defaults.keyValueHeadCount ?? headCount });
  if (headCount % keyValueHeadCount !== 0) {
    throw config.corrupt(
      'num_key_value_heads',
      `${keyValueHeadCount} does not divide num_attention_heads ${headCount}`,
    );
  }
  const headDim = defaults.ownHeadDim ?? readHeadDim(source, defaults, { hiddenSize, headCount });
  const maxPositions = readMaxPositions(source, 'max_position_embeddings', defaults.maxPositions);
  const { field, fallback } = defaults.activation ?? { field: 'hidden_act', fallback: 'silu' };
  const scale = 1 / Math.sqrt(headDim);
  const readRopes = defaults.readRopes ?? ((context) => new Array(layerCount).fill(readRope(config, context)));
  const layerRopes = readRopes({ headDim, ...defaults.rope, maxPositions });
  const ropes = [...new Set(layerRopes)];
  const positions = Math.max(...ropes.map((rope) => usablePositions(rope, maxPositions)));
  return {
    kind: 'decoder',
    family: defaults.family,
    names: namesInFiles(defaults.names, source),
    vocabSize,
    hiddenSize,
    intermediateSize: config.size('intermediate_size', { fallback: defaults.intermediateSize }),
    layerCount,
    headCount,
    keyValueHeadCount,
    headDim,
    embeddingScale: 1,
    branchScale: 1,
    logitScale: 1,
    norm: {
      kind: 'rms',
      epsilon: config.positiveNumber(
        defaults.normEpsilon?.field ?? 'rms_norm_eps',
        defaults.normEpsilon?.fallback ?? 1e-6,
      ),
      weightOffset: 0,
    },
    ropes,
    attention: {
      softcap: null,
      queryGrowth: null,
      queryKeyNorm: 'head',
      valueNorm: null,
      outputGate: null,
    },
    layers: layerRopes.map((rope) => ({
      mixer: { kind: 'attention', scale, window: null, rope: ropes.indexOf(rope) },
      mlp: { kind: 'dense' },
    })),
    layerInputs: null,
    mlp: { gated: true, activation: readActivation(config, field, fallback) },
    bias: { queryKeyValue: false, attentionOutput: false, mlp: false },
    transposedWeights: false,
    logitSoftcap: null,
    tiedHead: config.flag('tie_word_embeddings', defaults.tiedHead ?? false),
    maxPositions: Math.min(positions, MAX_POSITIONS),
    ignoredDropout: dropoutFields(
      config,
      defaults.dropout?.fields ?? ['attention_dropout'],
      defaults.dropout?.fallback ?? 0,
    ),
    ...readTokenIds(source, vocabSize, defaults),
  };
}

/** The fields whose dropout is not 0. */
export function dropoutFields(config: ConfigFields, fields: readonly string[], fallback: number): string[] {
  return fields.filter((field) => (config.value(field) ?? fallback) !== 0);
}

/** The biases of the attention's projections, which `attention_bias` sets together. */
export function attentionBias(config: ConfigFields): Omit<DecoderArchitecture['bias'], 'mlp'> {
  const bias = config.flag('attention_bias', false);
  return { queryKeyValue: bias, attentionOutput: bias };
}

/** @throws ProductError model_not_supported for a model with another task */
export function checkCausalLm({ config }: FamilySource, causalLm: string): void {
  const architectures = config.value('architectures');
  if (Array.isArray(architectures) && !architectures.includes(causalLm)) {
    throw config.unsupported('architectures', `is not supported; ${causalLm} is`);
  }
}

export function readLayerCount({ config }: FamilySource, field: string): number {
  return config.size(field, { max: MAX_LAYERS });
}

export function readMaxPositions({ config }: FamilySource, field: string, fallback: number): number {
  return config.size(field, { fallback, max: MAX_POSITIONS });
}

function readHeadDim(
  { config }: FamilySource,
  defaults: DecoderDefaults,
  { hiddenSize, headCount }: { hiddenSize: number; headCount: number },
): number {
  if (config.has('head_dim') || (defaults.headDim !== undefined && !config.isNull('head_dim'))) {
    const headDim = config.size('head_dim', defaults.headDim === undefined ? {} : { fallback: defaults.headDim });
    if (headDim % 2 !== 0) throw config.corrupt('head_dim', `${headDim} is odd, but RoPE rotates pairs of dimensions`);
    return headDim;
  }
  return headSize({ config }, 'hidden_size', { hiddenSize, headCount });
}

/** The size of a head, if the heads divide the hidden size. */
export function headSize(
  { config }: Pick<FamilySource, 'config'>,
  field: string,
  { hiddenSize, headCount }: { hiddenSize: number; headCount: number },
): number {
  if (hiddenSize % headCount !== 0) {
    throw config.corrupt(field, `${hiddenSize} is not a multiple of the number of heads, ${headCount}`);
  }
  const headDim = hiddenSize / headCount;
  if (headDim % 2 !== 0) throw config.unsupported(field, `is not supported: the size of a head, ${headDim}, is odd`);
  return headDim;
}

/** Reads the token ids. Those in generation_config.json end a text too: chat models list their end-of-turn token there. */
export function readTokenIds(
  { config, generation }: Pick<FamilySource, 'config' | 'generation'>,
  vocabSize: number,
  defaults: Pick<DecoderDefaults, 'bosTokenId' | 'eosTokenIds'>,
): Pick<DecoderArchitecture, 'bosTokenId' | 'eosTokenIds' | 'padTokenId'> {
  const withinVocabulary = (ids: number[]) => ids.filter((id) => id < vocabSize);
  const eosTokenIds = [
    ...(config.has('eos_token_id') || config.isNull('eos_token_id')
      ? config.tokenIds('eos_token_id', vocabSize)
      : withinVocabulary(defaults.eosTokenIds)),
    ...(generation?.tokenIds('eos_token_id', vocabSize) ?? []),
  ];
  const bos = config.has('bos_token_id')
    ? config.tokenIds('bos_token_id', vocabSize)
    : withinVocabulary(defaults.bosTokenId === null ? [] : [defaults.bosTokenId]);
  // In older configs, -1 or an id outside the vocabulary means "none".
  const pad = config.value('pad_token_id') ?? generation?.value('pad_token_id');
  const hasPad = Number.isSafeInteger(pad) && (pad as number) >= 0 && (pad as number) < vocabSize;
  return {
    bosTokenId: bos[0] ?? null,
    eosTokenIds: [...new Set(eosTokenIds)],
    padTokenId: hasPad ? (pad as number) : null,
  };
}
