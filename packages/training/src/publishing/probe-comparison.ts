import { ProductError } from '@lorasmith/contracts';
import type { LoraAdapter } from '@lorasmith/lora';
import type { LoadedModel } from '@lorasmith/models';
import type { DType } from '@lorasmith/tensor';
import type { PassTurn } from '../turn.js';
import { checkDifference } from './check-failed.js';
import { type Matrix, rmsDifference } from './log-probabilities.js';
import { PerturbedAdapter } from './perturbed-adapter.js';
import type { ProbeOutputs, ProbeRun } from './probe-run.js';
import { allFinite } from './read-back.js';
import { DEPENDENT_ERRORS } from './rounding-bounds.js';

/** A trained adapter with its results of the probe, which everything published of it is compared with. */
export interface ProbedAdapter {
  base: LoadedModel;
  adapter: LoraAdapter;
  probe: ProbeRun;
  /** Results of the base alone. */
  alone: ProbeOutputs;
  /** Results of the base with the adapter. */
  adapted: ProbeOutputs;
  /** Gives each pass its turn among what else the process computes. */
  turn: PassTurn;
}

/** How far log-probabilities are from those of the trained adapter, as a root mean square, and how far they may be. */
export interface ProbeComparison {
  difference: number;
  bound: number;
}

/** Results that are compared with those of the trained adapter. */
export interface ProbeCandidate {
  /** How it was made, for messages: "read from its files". */
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
 * How far roundings in its adapted layers move the log-probabilities of this model with this adapter, as a root mean
 * square. Two ways to compute the same adapted layers differ in these layers' outputs only, and there by errors that are
 * known to be within rounding. So such errors are made at random in each of them, and what comes out is what this model
 * makes of rounding. It is the largest of a few draws, four times, as each layer may differ by four times that.
 *
 * @param weights - The dtypes that weights were rounded to.
 */
export async function measuredBound(
  { base, adapter, probe, adapted, turn }: ProbedAdapter,
  weights: readonly DType[],
): Promise<number> {
  let largest = 0;
  for (let draw = 0; draw < DRAWS; draw++) {
    const perturbed = new PerturbedAdapter(adapter, base.groups, weights, draw);
    const [outputs] = (await turn(probe.tokens / 2, () => probe.run([perturbed]))) as [ProbeOutputs];
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
