import type { GroupAdapter, LinearGroup, ModelAdapter } from '@lorasmith/models';
import {
  add,
  alias,
  cast,
  constant,
  type DType,
  multiply,
  randomUniform,
  scope,
  subtract,
  type Tensor,
} from '@lorasmith/tensor';
import { layerRounding, weightRounding } from './rounding-bounds.js';

/**
 * Computes as another adapter does, with random errors in the outputs of each layer group that it adapts: of the size that
 * the layer's roundings may have, and that merging may. The errors of sums belong to one number each; those of weights
 * are the same for all tokens. The same draw has the same errors.
 */
export class PerturbedAdapter implements ModelAdapter {
  readonly #adapter: ModelAdapter;
  readonly #places: ReadonlyMap<LinearGroup, number>;
  readonly #weights: readonly DType[];
  readonly #draw: number;

  /**
   * @param groups - Of the base.
   * @param weights - The dtypes that merged weights are rounded to.
   */
  constructor(adapter: ModelAdapter, groups: readonly LinearGroup[], weights: readonly DType[], draw: number) {
    this.#adapter = adapter;
    this.#places = new Map(groups.map((group, place) => [group, place]));
    this.#weights = weights;
    this.#draw = draw;
  }

  at(group: LinearGroup): GroupAdapter | null {
    const inner = this.#adapter.at(group);
    if (inner === null) return null;
    const { computeDtype, inFeatures } = group.linear;
    const ofSums = layerRounding(computeDtype, inFeatures);
    const ofWeights = weightRounding([computeDtype, ...this.#weights]);
    const place = this.#places.get(group)!;
    /** @param x - `[tokens, out]` float32 @param part - Of the output: each part has other errors. */
    const errorsOf = (x: Tensor, part: number): Tensor => {
      const drawn = (rows: number, kind: number, size: number) => {
        const numbers = randomUniform([rows, x.shape[1]!], [this.#draw, 4 * place + 2 * part + kind]);
        // Of mean 0 and variance 1.
        const errors = multiply(subtract(numbers, constant(0.5)), constant(2 * Math.sqrt(3)));
        return multiply(errors, constant(size));
      };
      return multiply(x, add(drawn(x.shape[0]!, 0, ofSums), drawn(1, 1, ofWeights)));
    };
    return {
      trained: false,
      forward: (x, base, { dropoutSeed }) => {
        const output = scope(() => {
          const frozen = base();
          const adapted = inner.forward(x, () => alias(frozen), { record: false, dropoutSeed }).output;
          const exact = cast(adapted, 'float32');
          // Base and update may cancel each other; each is rounded by its own size, and the update twice.
          const update = multiply(subtract(exact, cast(frozen, 'float32')), constant(2));
          return cast(add(exact, add(errorsOf(exact, 0), errorsOf(update, 1))), adapted.dtype);
        });
        return { output, saved: null };
      },
      backward: () => {
        throw new Error('a perturbed pass is not trained through');
      },
    };
  }
}
