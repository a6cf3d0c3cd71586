import { EXPERT_PARAMETERS, isExpertParameter } from '@lorasmith/model-folder';
import type { PeftSizes } from './peft-adapter.js';

// PEFT adapts a parameter of experts by a wrapper around their module, and further ones by wrappers around that.

/** PEFT's name of what a wrapper wraps. */
const WRAPPED = '.base_layer';

/** True if an entry of `target_parameters` may select a parameter of experts: it is such a name, or ends one. */
export function maySelectExperts(target: string): boolean {
  return isExpertParameter(target) || EXPERT_PARAMETERS.some((parameter) => parameter === target);
}

/**
 * The paths of PEFT's wrappers of parameters of the same module. The last parameter's is in the place of the module, and
 * contains those of the others.
 *
 * @param parameters - Full names, in the order of EXPERT_PARAMETERS
 * @returns as many paths, in the same order
 */
export function wrapperPaths(parameters: readonly string[]): string[] {
  return parameters.map((name, index) => moduleOf(name) + WRAPPED.repeat(parameters.length - 1 - index));
}

/** The module of a wrapper: its path without what it is wrapped in. */
export function wrappedModule(path: string): string {
  let module = path;
  while (module.endsWith(WRAPPED)) module = module.slice(0, -WRAPPED.length);
  return module;
}

/** The module that has a parameter. */
export function moduleOf(parameter: string): string {
  return parameter.slice(0, parameter.lastIndexOf('.'));
}

type ExpertSizes = Pick<PeftSizes, 'rank' | 'outFeatures'> & { experts: number };

// A is `[experts · rank, in]` in PEFT's files: the numbers of `[experts, rank, in]` in the same order. In B the expert is fastest.

/** B of experts from PEFT's `[out, rank · experts]` to `[experts, out, rank]`. */
export function fromPeftB(values: Float32Array, { experts, outFeatures, rank }: ExpertSizes): Float32Array {
  const b = new Float32Array(values.length);
  for (let expert = 0, to = 0; expert < experts; expert++) {
    for (let from = expert; from < outFeatures * rank * experts; from += experts) b[to++] = values[from]!;
  }
  return b;
}

/** The inverse of {@link fromPeftB}. */
export function toPeftB(b: Float32Array, { experts, outFeatures, rank }: ExpertSizes): Float32Array {
  const values = new Float32Array(b.length);
  for (let expert = 0, from = 0; expert < experts; expert++) {
    for (let to = expert; to < outFeatures * rank * experts; to += experts) values[to] = b[from++]!;
  }
  return values;
}
