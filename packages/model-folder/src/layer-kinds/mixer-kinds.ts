import type { DecoderArchitecture, Mixer, ScoredAttention } from '../architecture.js';
import type { LinearLayer } from '../families/family.js';
import { attentionHeads, attentionKind, type LayerHeads } from './attention.js';
import { latentKind } from './latent.js';
import { linearKind } from './linear.js';

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

/** The linear layers of a mixer. */
export interface MixerLinears {
  /** The layers that read the mixer's input, in the order in which they are stacked. */
  inputs: LinearLayer[];
  /** The layers between those and the output, in the order of a pass. Each has an input of its own. */
  between: LinearLayer[];
  output: LinearLayer;
}

/** The constructors of the linear layers of one decoder layer. Paths are relative to it. */
export interface LinearMaker {
  linear(path: string, inFeatures: number, outFeatures: number, hasBias: boolean): LinearLayer;
  /** Layers that read the hidden state. A single path is fused: its layer has the rows of all parts. */
  stacked(paths: readonly string[], outFeatures: readonly number[], hasBias: boolean): LinearLayer[];
}

/** A tensor of a mixer that is of no linear layer. */
export interface MixerTensor {
  /** Relative to the decoder layer; of a norm the module path. */
  path: string;
  shape: number[];
  /** @defaultValue false */
  isNorm?: true;
}

/** A kind of mixer, as layouts and generation need it. `own` is the mixer of the layer that they ask about. */
export interface MixerKind<Own extends Mixer> {
  linears(own: Own, architecture: DecoderArchitecture, make: LinearMaker): MixerLinears;
  /** The tensors besides those of the linear layers. */
  tensors(own: Own, architecture: DecoderArchitecture): MixerTensor[];
  /** The numbers of a token's keys and values that generation keeps; 0: it keeps none of this layer. */
  keyValueNumbers(own: Own, architecture: DecoderArchitecture): number;
  /** Bytes of the states of a text that generation keeps. */
  stateBytes(own: Own, bytesPerNumber: number): number;
  /** The numbers of a head that its rotary settings are of. */
  rotaryDim(own: Own, architecture: DecoderArchitecture): number;
  /** Tensors that are rounded to the computing type on the way, beyond those of attention. */
  roundings(own: Own): number;
}
