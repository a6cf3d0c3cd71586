import { type DecoderArchitecture, headsOf, type LayerAttention, type Mixer } from '@lorasmith/model-folder';
import type { LayerPart } from './layer-part.js';
import { ofLayers, type Setting, uint } from './metadata-setting.js';

/**
 * The parts of attention by their names in GGUF. Keys and values that a layer reads of another one are not its own, even where the files
 * have some.
 */
export function attentionParts(own: LayerAttention, { names }: DecoderArchitecture): LayerPart[] {
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
export function headSettings(_: Mixer, architecture: DecoderArchitecture, layer: number): Setting[] {
  const { headDim } = headsOf(architecture, layer);
  const counts = architecture.layers.map((_, index) => headsOf(architecture, index).keyValueHeadCount);
  return [
    ['attention.head_count_kv', ofLayers(counts)],
    ['attention.key_length', uint(headDim)],
    ['attention.value_length', uint(headDim)],
  ];
}
