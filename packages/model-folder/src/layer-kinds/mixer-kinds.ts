import type { DecoderArchitecture, Mixer, ScoredAttention } from '../architecture.js';
import { attentionHeads, attentionKind, type LayerHeads } from './attention.js';
import { latentKind } from './latent.js';
import { linearKind } from './linear.js';
import type { LinearMaker, MixerKind, MixerLinears, MixerTensor } from './mixer-kind.js';

/** The mixers of one kind. */
export type MixerOf<Kind extends Mixer['kind']> = Extract<Mixer, { kind: Kind }>;

/** The kinds of mixers. To add one, describe it in architecture.ts and add a file to this folder and a line here. */
const KINDS: { readonly [Kind in Mixer['kind']]: MixerKind<MixerOf<Kind>> } = {
  attention: attentionKind,
  latent: latentKind,
  linear: linearKind,
};

function mixerIn(
  { layers }: Pick<DecoderArchitecture, 'layers'>,
  layer: number,
): { own: Mixer; kind: MixerKind<Mixer> } {
  const own = layers[layer]!.mixer;
  return { own, kind: KINDS[own.kind] as MixerKind<Mixer> };
}

/** True of attention by scores of queries and keys. */
export function hasScores(mixer: Mixer): mixer is Extract<Mixer, ScoredAttention> {
  return 'scale' in mixer;
}

/** The mixers of this kind, in the order of their layers. */
export function mixersOf<Kind extends Mixer['kind']>(
  { layers }: Pick<DecoderArchitecture, 'layers'>,
  kind: Kind,
): MixerOf<Kind>[] {
  return layers.map(({ mixer }) => mixer).filter((mixer): mixer is MixerOf<Kind> => mixer.kind === kind);
}

/** The mixer of a layer that is known to have one of this kind. */
export function mixerOf<Kind extends Mixer['kind']>(
  { layers }: Pick<DecoderArchitecture, 'layers'>,
  layer: number,
  kind: Kind,
): MixerOf<Kind> {
  const { mixer } = layers[layer]!;
  if (mixer.kind !== kind) throw new Error(`the mixer of layer ${layer} is ${mixer.kind}, not ${kind}`);
  return mixer as MixerOf<Kind>;
}

/** The heads of a layer; those of the architecture where its mixer has none of its own. */
export function headsOf(architecture: DecoderArchitecture, layer: number): LayerHeads {
  const { keyValueHeadCount, headDim, layers } = architecture;
  const { mixer } = layers[layer]!;
  return mixer.kind === 'attention' ? attentionHeads(mixer, architecture) : { keyValueHeadCount, headDim };
}

/** The linear layers of a layer's mixer. */
export function mixerLinears(architecture: DecoderArchitecture, layer: number, make: LinearMaker): MixerLinears {
  const { own, kind } = mixerIn(architecture, layer);
  return kind.linears(own, architecture, make);
}

/** The tensors of a layer's mixer besides its linear layers. */
export function mixerTensors(architecture: DecoderArchitecture, layer: number): MixerTensor[] {
  const { own, kind } = mixerIn(architecture, layer);
  return kind.tensors(own, architecture);
}

/** The numbers of a head that the rotary settings of a layer are of. */
export function rotaryDimOf(architecture: DecoderArchitecture, layer: number): number {
  const { own, kind } = mixerIn(architecture, layer);
  return kind.rotaryDim(own, architecture);
}

/** The layers whose keys and values generation keeps. */
export function layersWithKeys(architecture: DecoderArchitecture): number[] {
  return keyValueNumbersByLayer(architecture).flatMap((numbers, layer) => (numbers === 0 ? [] : [layer]));
}

/** The numbers of a token's keys and values, of all layers that generation keeps them of. */
export function keyValueNumbers(architecture: DecoderArchitecture): number {
  return keyValueNumbersByLayer(architecture).reduce((sum, numbers) => sum + numbers, 0);
}

function keyValueNumbersByLayer(architecture: DecoderArchitecture): number[] {
  return architecture.layers.map((_, layer) => {
    const { own, kind } = mixerIn(architecture, layer);
    return kind.keyValueNumbers(own, architecture);
  });
}

/** Bytes of the states that generation keeps of a text, in all layers. */
export function stateBytesPerText(architecture: DecoderArchitecture, bytesPerNumber: number): number {
  return architecture.layers.reduce((sum, _, layer) => {
    const { own, kind } = mixerIn(architecture, layer);
    return sum + kind.stateBytes(own, bytesPerNumber);
  }, 0);
}

/** Tensors that are rounded on the way through a mixer, beyond those of attention: of all layers the most. */
export function mixerRoundings(architecture: DecoderArchitecture): number {
  const ofLayers = architecture.layers.map((_, layer) => {
    const { own, kind } = mixerIn(architecture, layer);
    return kind.roundings(own);
  });
  return Math.max(...ofLayers);
}
