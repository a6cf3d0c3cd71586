import type { AdaptableModule } from '@lorasmith/contracts';
import { type DecoderArchitecture, lastPartOf } from '@lorasmith/model-folder';
import { layerIndexOf, type Target } from '../targets.js';

/** The block that a module lies in. Of those outside the blocks, an output head comes after all of them, others before. */
function blockOf({ name }: Pick<AdaptableModule, 'name'>): number {
  return layerIndexOf(name) ?? (lastPartOf(name) === 'lm_head' ? Number.POSITIVE_INFINITY : -1);
}

/** The lowest block with an adapted layer: no gradient is computed below it. Infinity where no block has one, -1 below all. */
export function lowestAdaptedBlock(targets: readonly Pick<AdaptableModule, 'name'>[]): number {
  return Math.min(...targets.map(blockOf));
}

/** The count of layers in a backward pass: 0 if only the output head is adapted. */
export function adaptedLayers(
  { layerCount }: Pick<DecoderArchitecture, 'layerCount'>,
  targets: readonly Pick<AdaptableModule, 'name'>[],
): number {
  return layerCount - Math.min(layerCount, Math.max(0, lowestAdaptedBlock(targets)));
}

/** The work of a model's linear layers, in multiply-adds. */
export interface LinearWork {
  forward: number;
  /** The forward products of recomputed layers. */
  again: number;
  /**
   * Gradients by the inputs; none below the lowest adapted layer, and none by what that layer reads. Of that layer all others are counted,
   * as if its first ones were adapted.
   */
  backward: number;
  /** Multiplications of the adapters, forward and backward. */
  adapters: number;
}

/** Pairs of products with A and with B: A x and B (A x) forward; the gradients of A, B and both inputs backward. */
const ADAPTER_PASSES = { forward: 1, backward: 2 };

/**
 * The products of the linear layers of a step.
 * @param options `tokensOf`: the tokens that pass through a module; `readsLayer`: true of a module that reads the input of its layer;
 * `isRecomputed`: true of a recomputed layer; `onlyForward`: without gradients
 */
export function linearWork(
  modules: readonly AdaptableModule[],
  targets: readonly Target[],
  {
    tokensOf,
    readsLayer,
    isRecomputed,
    onlyForward,
  }: {
    tokensOf: (module: AdaptableModule) => number;
    readsLayer: (module: AdaptableModule) => boolean;
    isRecomputed: (layer: number) => boolean;
    onlyForward: boolean;
  },
): LinearWork {
  const size = (module: AdaptableModule) => tokensOf(module) * module.in_features * module.out_features;
  const lowest = lowestAdaptedBlock(targets);
  const sizeOf = (some: readonly AdaptableModule[]) => some.reduce((sum, module) => sum + size(module), 0);
  const withGradient = onlyForward ? [] : modules.filter((module) => blockOf(module) >= lowest);
  const atTheEnd = withGradient.filter((module) => blockOf(module) === lowest && readsLayer(module));
  const passes = ADAPTER_PASSES.forward + (onlyForward ? 0 : ADAPTER_PASSES.backward);
  const adapters = targets.reduce(
    (sum, target) => sum + passes * target.rank * tokensOf(target) * (target.in_features + target.out_features),
    0,
  );
  const again = sizeOf(withGradient.filter((module) => isRecomputed(blockOf(module))));
  return { forward: sizeOf(modules), again, backward: sizeOf(withGradient) - sizeOf(atTheEnd), adapters };
}
