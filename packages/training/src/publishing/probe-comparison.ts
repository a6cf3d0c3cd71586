import { ProductError } from '@lorasmith/contracts';
import type { GroupAdapter, LinearGroup, LoadedModel, LoraAdapter, ModelAdapter } from '@lorasmith/models';
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
import type { InTimeSlice } from '../shared-pass/engine-time.js';
import { type Matrix, type ProbeOutputs, type ProbeRun, rmsDifference } from './probe-run.js';
import { allFinite } from './read-back.js';
import { checkDifference, DEPENDENT_ERRORS, layerRounding, weightRounding } from './rounding-bounds.js';

/** A trained adapter with its results of the probe, which everything published of it is compared with. */
export interface ProbedAdapter {
  base: LoadedModel;
  adapter: LoraAdapter;
  probe: ProbeRun;
  /** Results of the base alone. */
  alone: ProbeOutputs;
  /** Results of the base with the adapter. */
  adapted: ProbeOutputs;
  /** Gives each pass an engine call among what else the process computes. */
  inEngineCall: InTimeSlice;
}

/** The distance of log-probabilities from those of the trained adapter, as a root mean square, and its bound. */
export interface ProbeComparison {
  difference: number;
  bound: number;
}

/** Results that are compared with those of the trained adapter. */
export interface ProbeCandidate {
  /** The way it was made, for messages: "read from its files". */
  how: string;
  outputs: ProbeOutputs;
  /** The bound of rounding in a model that does not amplify errors. */
  bound: number;
  /** The dtypes that weights were rounded to. */
  weights: readonly DType[];
}

/** Random errors that a model's amplification is measured with. */
const DRAWS = 4;

/**
 * Compares with the results of the trained adapter. Where they differ by more than rounding makes of a model that does not
 * amplify errors, {@link measuredBound} decides.
 *
 * @throws ProductError adapter_check_failed
 */
export async function compareProbe(probed: ProbedAdapter, candidate: ProbeCandidate): Promise<ProbeComparison> {
  const difference = rmsDifference(candidate.outputs.logprobs, probed.adapted.logprobs);
  let { bound } = candidate;
  // Not `>`: NaN must fail.
  if (!(difference <= bound)) bound = Math.max(bound, await measuredBound(probed, candidate.weights));
  checkDifference(candidate.how, difference, bound);
  return { difference, bound };
}

/**
 * The distance that roundings in its adapted layers move the log-probabilities of this model with this adapter, as a root mean
 * square. Two ways to compute the same adapted layers differ in these layers' outputs only, and there by errors that are
 * known to be within rounding. So such errors are made at random in each of them, and what comes out is what this model
 * makes of rounding. It is the largest of a few draws, four times, as each layer may differ by four times that.
 *
 * @param weights - The dtypes that weights were rounded to.
 */
export async function measuredBound(
  { base, adapter, probe, adapted, inEngineCall }: ProbedAdapter,
  weights: readonly DType[],
): Promise<number> {
  let largest = 0;
  for (let draw = 0; draw < DRAWS; draw++) {
    const perturbed = new PerturbedAdapter(adapter, base.groups, weights, draw);
    const [outputs] = (await inEngineCall(probe.tokens / 2, () => probe.run([perturbed]))) as [ProbeOutputs];
    largest = Math.max(largest, rmsDifference(outputs.logprobs, adapted.logprobs));
  }
  return DEPENDENT_ERRORS * largest;
}

/** @throws ProductError non_finite_loss */
export function checkFinite({ values }: Matrix, what: string): void {
  if (allFinite(values)) return;
  const message = `${what} gives numbers that are not finite for the probe. Train with a lower learning_rate.`;
  throw new ProductError('non_finite_loss', message);
}

/**
 * Computes as another adapter does, with random errors in the outputs of each layer group that it adapts: of the size that
 * the layer's roundings may have, and that merging may. The errors of sums belong to one number each; those of weights
 * are the same for all tokens. The same draw has the same errors.
 */
export class PerturbedAdapter implements ModelAdapter {
  readonly #adapter: ModelAdapter;
  readonly #indices: ReadonlyMap<LinearGroup, number>;
  readonly #weights: readonly DType[];
  readonly #draw: number;

  /**
   * @param groups - Of the base.
   * @param weights - The dtypes that merged weights are rounded to.
   */
  constructor(adapter: ModelAdapter, groups: readonly LinearGroup[], weights: readonly DType[], draw: number) {
    this.#adapter = adapter;
    this.#indices = new Map(groups.map((group, index) => [group, index]));
    this.#weights = weights;
    this.#draw = draw;
  }

  at(group: LinearGroup): GroupAdapter | null {
    const inner = this.#adapter.at(group);
    if (inner === null) return null;
    const { computeDtype, inFeatures } = group.linear;
    const ofSums = layerRounding(computeDtype, inFeatures);
    const ofWeights = weightRounding([computeDtype, ...this.#weights]);
    const index = this.#indices.get(group)!;
    /** @param x - `[tokens, out]` float32 @param part - Of the output: each part has other errors. */
    const errorsOf = (x: Tensor, part: number): Tensor => {
      const drawn = (rows: number, kind: number, size: number) => {
        const numbers = randomUniform([rows, x.shape[1]!], [this.#draw, 4 * index + 2 * part + kind]);
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
