import type { DecoderArchitecture, Experts, LayerSettings, Mlp, RopeSettings } from '../architecture.js';
import type { ConfigFields } from '../config/config-fields.js';
import { attentionBias, readDecoderConfig, readLayerCount } from '../config/decoder-config.js';
import { EXPERT_NAMES, expertFiles, MAX_EXPERTS, readPerToken } from '../config/experts.js';
import { fullEvery, LAYER_TYPES, type LayerType, readLayerTypes } from '../config/layer-windows.js';
import { decoderLayout } from '../decoder-layout.js';
import type { DecoderNames, ExpertNames } from '../decoder-names.js';
import type { Family, FamilySource } from './family.js';
import { GEMMA3_NAMES } from './gemma.js';

/** The parts in Gemma 4, whose experts are beside an MLP. Its router is a linear layer, which adapters may act at. */
const GEMMA4_EXPERT_NAMES: ExpertNames = {
  ...EXPERT_NAMES,
  router: 'router.proj',
  experts: 'experts',
  beside: {
    norm: 'pre_feedforward_layernorm_2',
    branchNorm: 'post_feedforward_layernorm_2',
    mlpBranchNorm: 'post_feedforward_layernorm_1',
    routerScale: 'router.scale',
    expertScales: 'router.per_expert_scale',
  },
};

const NAMES: DecoderNames = {
  ...GEMMA3_NAMES,
  layerScale: 'layer_scalar',
  layerInputs: {
    embedding: 'model.embed_tokens_per_layer',
    projection: 'model.per_layer_model_projection',
    norm: 'model.per_layer_projection_norm',
    gate: 'per_layer_input_gate',
    output: 'per_layer_projection',
    branchNorm: 'post_per_layer_input_norm',
  },
};

/** The sizes of heads that differ between the types of layers. */
interface Heads {
  headDim: number;
  keyValueHeadCount: number;
}

/** Fields of config.json with the sizes of heads, which `per_layer_config` may change for some layers. */
const HEAD_FIELDS = { headDim: 'head_dim', keyValueHeadCount: 'num_key_value_heads' } as const;

/**
 * The language model of Gemma 4: heads of another size where attention has no window, values that are keys, last layers that read
 * keys and values of earlier ones, an input of each layer in addition to the residual stream, a factor of each layer's output, and in
 * 26B-A4B experts beside the MLP of each layer; transformers' `Gemma4TextConfig`.
 */
export const gemma4Text: Family<DecoderArchitecture> = {
  covers:
    'the language model of Gemma 4 E2B, E4B and 31B: heads of two sizes, keys and values that layers share, inputs of layers; also of 26B-A4B, with experts next to MLPs',
  readsLayerConfigs: true,
  readArchitecture(source) {
    const { config } = source;
    checkFeatures(config);
    const layerCount = readLayerCount(source, 'num_hidden_layers');
    const types = readTypes(config, layerCount);
    const decoder = readDecoderConfig(source, {
      family: 'gemma4_text',
      causalLm: 'Gemma4ForCausalLM',
      names: config.flag('enable_moe_block', false) ? { ...NAMES, experts: GEMMA4_EXPERT_NAMES } : NAMES,
      vocabSize: 262_144,
      maxPositions: 131_072,
      bosTokenId: 2,
      eosTokenIds: [1],
      headCount: 8,
      keyValueHeadCount: 4,
      headDim: 256,
      activation: { field: 'hidden_activation', fallback: 'gelu_pytorch_tanh' },
      tiedHead: true,
      readRopes: () => new Array(layerCount).fill(null),
    });
    const heads = readHeads(config, types, decoder);
    const ropes = LAYER_TYPES.map((type) =>
      types.includes(type) ? readRope(config, type, heads[types.indexOf(type)]!.headDim) : null,
    );
    const owners = readOwners(config, types);
    const firstReader = owners.findIndex((owner) => owner !== null);
    const keysAreValues = config.flag('attention_k_eq_v', false);
    const window = config.size('sliding_window', { fallback: 512 });
    const mixers = types.map((type, layer): LayerSettings['mixer'] => {
      const isSliding = type === 'sliding_attention';
      const rope = LAYER_TYPES.indexOf(type);
      const owner = owners[layer]!;
      return {
        kind: 'attention',
        scale: 1,
        window: isSliding ? window : null,
        rope,
        ...heads[layer]!,
        ...(keysAreValues && !isSliding ? { keysAreValues } : {}),
        ...(owner === null ? {} : { keysAndValuesOf: owner }),
      };
    });
    const isDoubled = config.flag('use_double_wide_mlp', false) && firstReader !== -1;
    const inputSize = config.isNull('hidden_size_per_layer_input')
      ? 0
      : config.count('hidden_size_per_layer_input', 256);
    return {
      ...decoder,
      names: inputSize === 0 ? { ...decoder.names, layerInputs: null } : decoder.names,
      embeddingScale: Math.sqrt(decoder.hiddenSize),
      ropes,
      attention: { ...decoder.attention, valueNorm: 'rms' },
      layerInputs: inputSize === 0 ? null : { size: inputSize, vocabSize: readInputVocabulary(config, decoder) },
      layers: readMlps(source, decoder, isDoubled ? firstReader : layerCount).map((mlp, layer) => ({
        mixer: mixers[layer]!,
        mlp,
      })),
      bias: { ...attentionBias(config), mlp: false },
      logitSoftcap: config.positiveNumberOrNull('final_logit_softcapping', null),
    };
  },
  layout: decoderLayout,
};

/** @throws ProductError model_not_supported */
function checkFeatures(config: ConfigFields): void {
  // Between images alone, attention of "vision" is not causal, and rows of text have none.
  const bidirectional = config.text('use_bidirectional_attention');
  if (bidirectional !== undefined && bidirectional !== 'vision') {
    throw config.unsupported('use_bidirectional_attention', 'is not supported: attention is causal');
  }
}

/** The last layer has full attention, whatever the config says, as in transformers. */
function readTypes(config: ConfigFields, layerCount: number): LayerType[] {
  const types = readLayerTypes(config, layerCount, fullEvery(6));
  return [...types.slice(0, -1), 'full_attention'];
}

/**
 * The heads of each layer: those of `per_layer_config` (transformers 5), or of `global_head_dim` and
 * `num_global_key_value_heads` (the releases of the models) where attention has no window.
 */
function readHeads(config: ConfigFields, types: readonly LayerType[], usual: DecoderArchitecture): Heads[] {
  const own = config.nested('per_layer_config');
  if (own === undefined && !config.isNull('per_layer_config')) {
    const headDim = config.size('global_head_dim', { fallback: 512 });
    const hasOwnCount = config.flag('attention_k_eq_v', false) && config.has('num_global_key_value_heads');
    const keyValueHeadCount = hasOwnCount ? config.size('num_global_key_value_heads') : usual.keyValueHeadCount;
    checkHeads(config, { headDim: 'global_head_dim', keyValueHeadCount: 'num_global_key_value_heads' }, usual, {
      headDim,
      keyValueHeadCount,
    });
    const { headDim: slidingDim, keyValueHeadCount: slidingCount } = usual;
    return types.map((type) =>
      type === 'full_attention'
        ? { headDim, keyValueHeadCount }
        : { headDim: slidingDim, keyValueHeadCount: slidingCount },
    );
  }
  const entries = layerEntries(config, own, types.length);
  const heads = types.map((_, layer) => headsOfEntry(config, entries.get(layer), usual));
  for (const type of LAYER_TYPES) {
    const [first, ...others] = heads.filter((_, layer) => types[layer] === type);
    const isSame = (other: Heads) =>
      Object.entries(first!).every(([field, size]) => other[field as keyof Heads] === size);
    if (!others.every(isSame)) {
      throw config.corrupt('per_layer_config', `gives the layers with ${type} heads of different sizes or numbers`);
    }
  }
  return heads;
}

/** The entries of `per_layer_config` by layer. Keys are indices, with zeros in front where others have more digits. */
function layerEntries(
  config: ConfigFields,
  own: ConfigFields | undefined,
  layerCount: number,
): ReadonlyMap<number, ConfigFields> {
  const entries = new Map<number, ConfigFields>();
  for (const key of own?.names ?? []) {
    const layer = /^\d{1,9}$/.test(key) ? Number(key) : -1;
    if (layer < 0 || layer >= layerCount) {
      throw config.corrupt(
        'per_layer_config',
        `has the key ${JSON.stringify(key.slice(0, 50))}: there is no such layer`,
      );
    }
    if (entries.has(layer)) throw config.corrupt('per_layer_config', `has two entries for layer ${layer}`);
    const entry = own!.nested(key);
    if (entry !== undefined) entries.set(layer, entry);
  }
  return entries;
}

function headsOfEntry(config: ConfigFields, entry: ConfigFields | undefined, usual: DecoderArchitecture): Heads {
  const { headDim, keyValueHeadCount } = usual;
  if (entry === undefined) return { headDim, keyValueHeadCount };
  for (const field of entry.names) {
    const isOfHeads = (Object.values(HEAD_FIELDS) as string[]).includes(field);
    // An entry may repeat what all layers have.
    if (isOfHeads || JSON.stringify(entry.value(field)) === JSON.stringify(config.value(field))) continue;
    throw entry.unsupported(field, `is not supported; ${Object.values(HEAD_FIELDS).join(' and ')} are`);
  }
  const heads = {
    headDim: entry.size(HEAD_FIELDS.headDim, { fallback: headDim }),
    keyValueHeadCount: entry.size(HEAD_FIELDS.keyValueHeadCount, { fallback: keyValueHeadCount }),
  };
  checkHeads(entry, HEAD_FIELDS, usual, heads);
  return heads;
}

/** @throws ProductError model_file_corrupt */
function checkHeads(
  config: ConfigFields,
  fields: Record<keyof Heads, string>,
  { headCount }: DecoderArchitecture,
  { headDim, keyValueHeadCount }: Heads,
): void {
  if (headDim % 2 !== 0) {
    throw config.corrupt(fields.headDim, `${headDim} is odd, but RoPE rotates pairs of dimensions`);
  }
  if (headCount % keyValueHeadCount !== 0) {
    throw config.corrupt(
      fields.keyValueHeadCount,
      `${keyValueHeadCount} does not divide num_attention_heads ${headCount}`,
    );
  }
}

/**
 * The layer whose keys and values each of the last `num_kv_shared_layers` layers reads: the last one of its type before them. null
 * for the others.
 */
function readOwners(config: ConfigFields, types: readonly LayerType[]): (number | null)[] {
  const first = types.length - config.count('num_kv_shared_layers', 0);
  return types.map((type, layer) => {
    if (layer < first) return null;
    const owner = first > 0 ? types.lastIndexOf(type, first - 1) : -1;
    if (owner !== -1) return owner;
    throw config.corrupt('num_kv_shared_layers', `leaves no layer with ${type} and keys and values of its own`);
  });
}

/** The MLPs of all layers, or those beside experts. @param doubledFrom the first of the last layers whose MLPs are twice as wide */
function readMlps(source: FamilySource, decoder: DecoderArchitecture, doubledFrom: number): Mlp[] {
  const usual: Mlp =
    decoder.names.experts === null
      ? { kind: 'dense' }
      : { kind: 'parallel', experts: readGemma4Experts(source, decoder) };
  const doubled = { ...usual, intermediateSize: 2 * decoder.intermediateSize };
  return decoder.layers.map((_, layer) => (layer < doubledFrom ? usual : doubled));
}

/** The rows of the table of layer inputs. */
function readInputVocabulary(config: ConfigFields, { vocabSize }: DecoderArchitecture): number {
  const rows = config.size('vocab_size_per_layer_input', { fallback: 262_144 });
  if (rows < vocabSize) {
    throw config.corrupt('vocab_size_per_layer_input', `${rows} is less than vocab_size ${vocabSize}`);
  }
  return rows;
}

/** The rotary settings of the layers of a type: all pairs of a head rotate, or the first of them. */
function readRope(config: ConfigFields, type: LayerType, headDim: number): RopeSettings {
  const byType = config.nested('rope_parameters');
  if (byType === undefined) {
    return type === 'full_attention'
      ? ropeOf(1_000_000, { pairs: pairsOf(0.25, headDim), factor: 1 })
      : ropeOf(10_000, null);
  }
  const parameters = byType.nested(type);
  if (parameters === undefined) throw byType.corrupt(type, 'is missing');
  const field = parameters.has('rope_type') ? 'rope_type' : 'type';
  const name = parameters.text(field) ?? 'default';
  const theta = parameters.positiveNumber('rope_theta', 10_000);
  if (name === 'default') return ropeOf(theta, null);
  if (name !== 'proportional') throw parameters.unsupported(field, 'is not supported; default and proportional are');
  const share = parameters.positiveNumber('partial_rotary_factor', 1);
  if (share > 1) throw parameters.corrupt('partial_rotary_factor', 'must not be above 1');
  const pairs = pairsOf(share, headDim);
  if (pairs === 0) throw parameters.corrupt('partial_rotary_factor', 'rotates nothing');
  return ropeOf(theta, { pairs, factor: parameters.positiveNumber('factor', 1) });
}

function ropeOf(theta: number, proportional: { pairs: number; factor: number } | null): RopeSettings {
  const scaling = proportional && ({ type: 'proportional', ...proportional } as const);
  return { theta, partialRotaryFactor: 1, interleaved: false, scaling };
}

function pairsOf(share: number, headDim: number): number {
  return Math.floor((share * headDim) / 2);
}

/**
 * Reads the experts of Gemma 4, which are in all layers, beside their MLPs. The decoder's `names.experts` are needed.
 *
 * @throws ProductError model_file_corrupt, model_not_supported
 */
function readGemma4Experts(source: FamilySource, decoder: DecoderArchitecture): Experts {
  const { config } = source;
  const count = config.size('num_experts', { max: MAX_EXPERTS });
  const perToken = readPerToken(config, count, { field: 'top_k_experts' });
  return {
    count,
    perToken,
    intermediateSize: config.size('moe_intermediate_size'),
    renormalized: true,
    shared: null,
    files: expertFiles(
      source,
      decoder.names,
      decoder.layers.map(() => true),
    ),
  };
}
