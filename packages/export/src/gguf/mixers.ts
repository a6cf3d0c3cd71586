import {
  type DecoderArchitecture,
  headsOf,
  type LayerAttention,
  type Mixer,
  type MixerOf,
} from '@lorasmith/model-folder';
import { latentAttentionParts, latentHeadSettings } from './latent-attention.js';
import type { LayerPart } from './layer-part.js';
import { linearAttentionParts } from './linear-attention.js';
import { ofLayers, type Setting, uint } from './metadata-setting.js';

/** A kind of mixer as llama.cpp has it. */
interface GgufMixer<Own extends Mixer> {
  /** Its parts by their names in GGUF. */
  parts(own: Own, architecture: DecoderArchitecture): LayerPart[];
  /** The sizes of heads in a model whose layer with positions is this one. */
  headSettings(own: Own, architecture: DecoderArchitecture, layer: number): Setting[];
}

/** The kinds of mixers. To add one, add a file to this folder and a line here. */
const MIXERS: { readonly [Kind in Mixer['kind']]: GgufMixer<MixerOf<Kind>> } = {
  attention: { parts: attentionParts, headSettings },
  latent: { parts: latentAttentionParts, headSettings: latentHeadSettings },
  // It has no positions: the settings are of the other layers.
  linear: { parts: linearAttentionParts, headSettings },
};

/** The parts of a layer's mixer by their names in GGUF. */
export function mixerParts(architecture: DecoderArchitecture, layer: number): LayerPart[] {
  const { mixer } = architecture.layers[layer]!;
  return (MIXERS[mixer.kind] as GgufMixer<Mixer>).parts(mixer, architecture);
}

/** The sizes of heads in a model whose layer with positions is this one. */
export function mixerHeadSettings(architecture: DecoderArchitecture, layer: number): Setting[] {
  const { mixer } = architecture.layers[layer]!;
  return (MIXERS[mixer.kind] as GgufMixer<Mixer>).headSettings(mixer, architecture, layer);
}

/**
 * The parts of attention by their names in GGUF. Keys and values that a layer reads of another one are not its own, even where the files
 * have some.
 */
function attentionParts(own: LayerAttention, { names }: DecoderArchitecture): LayerPart[] {
  const { keysAreValues = false, keysAndValuesOf } = own;
  const [first, keys = null, values = null] = names.queryKeyValue;
  const hasKeys = keysAndValuesOf === undefined;
  return [
    { path: first!, name: keys === null ? 'attn_qkv' : 'attn_q' },
    { path: hasKeys ? keys : null, name: 'attn_k' },
    { path: hasKeys && !keysAreValues ? values : null, name: 'attn_v' },
    { path: names.queryNorm, name: 'attn_q_norm', isNorm: true },
    { path: hasKeys ? names.keyNorm : null, name: 'attn_k_norm', isNorm: true },
    { path: names.attentionOutput, name: 'attn_output' },
    { path: names.sinks ?? null, name: 'attn_sinks.weight', isTensor: true },
  ];
}

/** The sizes of heads; of keys and values the numbers of all layers. */
function headSettings(_: Mixer, architecture: DecoderArchitecture, layer: number): Setting[] {
  const { headDim } = headsOf(architecture, layer);
  const counts = architecture.layers.map((_, index) => headsOf(architecture, index).keyValueHeadCount);
  return [
    ['attention.head_count_kv', ofLayers(counts)],
    ['attention.key_length', uint(headDim)],
    ['attention.value_length', uint(headDim)],
  ];
}
