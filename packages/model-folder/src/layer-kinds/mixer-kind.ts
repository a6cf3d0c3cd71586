import type { DecoderArchitecture, Mixer } from '../architecture.js';
import type { LinearLayer } from '../families/family.js';

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
