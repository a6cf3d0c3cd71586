import type { DecoderArchitecture, Mixer, MixerOf } from '@lorasmith/model-folder';
import { attentionParts, headSettings } from './attention.js';
import { latentAttentionParts, latentHeadSettings } from './latent-attention.js';
import type { LayerPart } from './layer-part.js';
import { linearAttentionParts } from './linear-attention.js';
import type { Setting } from './metadata-setting.js';

/** A kind of mixer as llama.cpp has it. */
interface GgufMixer<Own extends Mixer> {
  /** Its parts by their names in GGUF. */
  parts(own: Own, architecture: DecoderArchitecture): LayerPart[];
  /** The sizes of heads in a model whose layer with positions is this one. */
  headSettings(own: Own, architecture: DecoderArchitecture, layer: number): Setting[];
}

/** The kinds of mixers. To add one, add a file beside this one and a line here. */
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
