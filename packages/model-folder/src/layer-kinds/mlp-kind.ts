import type { DecoderArchitecture, Mlp } from '../architecture.js';
import type { ExpertParameter, LinearLayer, RequiredTensor } from '../families/family.js';
import type { LinearMaker } from './mixer-kind.js';

/** The linear layers of an MLP of whatever kind. */
export interface MlpLinears {
  /** The MLP that all tokens pass, or their shared expert; null where there is neither. */
  mlp: { gateUp: LinearLayer[]; down: LinearLayer } | null;
  /** The gate of the shared expert; null without one, or without a gate. */
  sharedGate: LinearLayer | null;
  /** The router of experts in parallel with an MLP; null without one. No adapter acts at other routers. */
  router: LinearLayer | null;
}

/** A kind of MLP, as layouts need it. `own` is the MLP of the layer that they ask about. */
export interface MlpKind<Own extends Mlp> {
  linears(own: Own, architecture: DecoderArchitecture, make: LinearMaker): MlpLinears;
  /** The module paths of norms within it, of the size of the hidden state, relative to the layer. */
  norms(own: Own, architecture: DecoderArchitecture): string[];
  /** The tensors besides those of linear layers and norms. */
  tensors(own: Own, architecture: DecoderArchitecture, layer: number): RequiredTensor[];
  /** The parameters that are of all experts together. */
  parameters(own: Own, architecture: DecoderArchitecture, layer: number): ExpertParameter[];
  /** Tensors that files must not have, and what each would be. */
  contradicting(own: Own, architecture: DecoderArchitecture, layer: number): [name: string, what: string][];
  /** Tensors that are rounded to the computing type on the way, beyond those of one MLP. */
  roundings(own: Own, architecture: DecoderArchitecture): number;
}
