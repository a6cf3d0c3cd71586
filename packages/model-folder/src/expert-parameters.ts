import { hasSuffix } from './module-pattern.js';

/**
 * The parameters of a module of experts, each with the weights of all of them, in the order in which transformers' classes declare
 * them.
 */
export const EXPERT_PARAMETERS = ['gate_up_proj', 'down_proj'] as const;
/** The last part of the name of a module of experts, in all families of transformers 5. */
const EXPERTS = 'experts';

/** Whether a name is that of a parameter of experts, for instance `model.layers.0.mlp.experts.down_proj`. */
export function isExpertParameter(name: string): boolean {
  return EXPERT_PARAMETERS.some((parameter) => hasSuffix(name, `${EXPERTS}.${parameter}`));
}

/** The full names of the parameters that a module of experts may have, in their order; none for another module. */
export function expertParametersOf(module: string): string[] {
  return hasSuffix(module, EXPERTS) ? EXPERT_PARAMETERS.map((parameter) => `${module}.${parameter}`) : [];
}

/**
 * The shortest list of `target_parameters` that selects exactly these parameters: their names within a layer, for instance
 * `mlp.experts.down_proj`, or the full names if the base has others with such a name.
 */
export function targetParametersOf(adapted: Iterable<string>, ofBase: Iterable<string>): string[] {
  const names = new Set(adapted);
  const suffixes = new Set([...names].map(shortName));
  const selectsMore = [...ofBase].some((name) => suffixes.has(shortName(name)) && !names.has(name));
  return [...(selectsMore ? names : suffixes)].sort();
}

/** The name within a layer: what follows the last index. */
function shortName(parameter: string): string {
  return parameter.replace(/^.*\.\d+\./, '');
}
