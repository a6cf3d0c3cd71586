import type { AdaptableModule } from '@lorasmith/contracts';
import type { Target } from '../target-ranks.js';

/** Number of the layer a module lies in, from its name: `model.layers.3.mlp.up_proj` is in 3. */
export function layerIndexOf(module: string): number {
  return Number(/\.(\d+)\./.exec(module)?.[1] ?? 0);
}

/** Products a model's linear layers make, in multiply-adds. */
export interface LinearWork {
  forward: number;
  /** Gradients by the inputs; none below the lowest adapted layer. */
  backward: number;
  /** Of the adapters, forward and backward. */
  adapters: number;
}

/** @param tokensOf how many tokens pass through a module */
export function linearWork(
  modules: readonly AdaptableModule[],
  targets: readonly Target[],
  tokensOf: (module: AdaptableModule) => number,
): LinearWork {
  const size = (module: AdaptableModule) => tokensOf(module) * module.in_features * module.out_features;
  const lowest = Math.min(...targets.map(({ name }) => layerIndexOf(name)));
  const forward = modules.reduce((sum, module) => sum + size(module), 0);
  const backward = modules
    .filter(({ name }) => layerIndexOf(name) >= lowest)
    .reduce((sum, module) => sum + size(module), 0);
  // A x and B (A x) forward; the gradients of A, B and both inputs backward.
  const adapters = targets.reduce(
    (sum, target) => sum + 3 * target.rank * tokensOf(target) * (target.in_features + target.out_features),
    0,
  );
  return { forward, backward, adapters };
}
