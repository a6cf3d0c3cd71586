import { type AdaptableModule, type LoraSettings, ProductError } from '@lorasmith/contracts';
import { hasSuffix, lastPartOf, PatternError, targetParametersOf, wholeNameMatcher } from '@lorasmith/model-folder';
import { type CodedFault, FaultList } from './fault-list.js';
import { layerIndexOf } from './targets.js';

/** The settings that select what LoRA adapts. */
export type TargetSelection = Pick<
  LoraSettings,
  'target_modules' | 'target_parameters' | 'exclude_modules' | 'layers_to_transform'
>;

/** The parts of a model that LoRA can adapt. */
export interface AdaptableParts {
  /** Every linear layer but the output head. */
  modules: readonly AdaptableModule[];
  /** The parameters of experts. */
  parameters: readonly AdaptableModule[];
  /** The output head, if there is one. */
  headModule: AdaptableModule | null;
}

const TARGETS = 'lora.target_modules';
const PARAMETERS = 'lora.target_parameters';
const LAYERS = 'lora.layers_to_transform';

/**
 * The layers that LoRA adapts, selected as PEFT selects them. `target_modules` is a list of names or name suffixes, or a
 * regular expression that must match the whole name, or `all-linear` (also as a list of one): every linear layer but the
 * output head, which a name or an expression may select. Those of `exclude_modules` are left out. With `layers_to_transform`, which does not go with an expression,
 * only layers of these blocks are adapted; a module that is named in full is adapted anyway.
 *
 * `target_parameters` selects parameters of experts by their names or suffixes of them, of all blocks.
 *
 * Expressions are matched in linear time (RE2), so none can hang the service; what RE2 lacks (look-around,
 * back-references) is refused.
 *
 * @returns The chosen layers in the order of the model, then the chosen parameters.
 * @throws ProductError `unmatched_target` with a fault for each entry that matches nothing, naming what there is, and
 * when nothing is left; `invalid_job` for what is no regular expression.
 */
export function chooseTargets(
  { modules, parameters, headModule }: AdaptableParts,
  selection: TargetSelection,
): AdaptableModule[] {
  const faults = new FaultList();
  const linear = headModule === null ? modules : [...modules, headModule];
  const { isExcluded, faults: ofExclusion } = excludedModules(linear, selection.exclude_modules);
  faults.add(...ofExclusion);
  const { target_modules: target } = selection;
  const isTarget = isAllLinear(target)
    ? ({ name }: AdaptableModule) => name !== headModule?.name
    : targetTest(linear, target, faults);
  const isInLayers = layerTest(modules, selection, faults);
  const ofExperts = targetedParameters(parameters, selection.target_parameters ?? [], faults);
  faults.throwIfAny();

  const targeted = linear.filter(isTarget);
  const inLayers = targeted.filter(({ name }) => isInLayers(name));
  const chosen = inLayers.filter(({ name }) => !isExcluded(name));
  if (chosen.length + ofExperts.length > 0) return [...chosen, ...ofExperts];
  const [param, what] =
    target.length === 0
      ? ([TARGETS, 'target_modules is an empty list, and there are no target_parameters'] as const)
      : inLayers.length > 0
        ? (['lora.exclude_modules', 'exclude_modules excludes every layer that target_modules selects'] as const)
        : ([LAYERS, 'None of these blocks has a layer that target_modules selects'] as const);
  throw new ProductError('unmatched_target', `${what}: there is nothing to train.`, { param });
}

function targetedParameters(
  parameters: readonly AdaptableModule[],
  targets: readonly string[],
  faults: FaultList,
): AdaptableModule[] {
  if (targets.length > 0 && parameters.length === 0) {
    const message =
      'The base model has no experts that can be adapted, and target_parameters selects the parameters of experts. Leave it out; target_modules selects linear layers.';
    faults.add({ code: 'unmatched_target', message, param: PARAMETERS });
    return [];
  }
  for (const [index, target] of targets.entries()) {
    if (parameters.some(({ name }) => hasSuffix(name, target))) continue;
    const names = parameters.map(({ name }) => name);
    const message = `No parameter of experts is named ${JSON.stringify(target)}. There are: ${listed(targetParametersOf(names, names))}.`;
    faults.add({ code: 'unmatched_target', message, param: `${PARAMETERS}.${index}` });
  }
  return parameters.filter(({ name }) => targets.some((target) => hasSuffix(name, target)));
}

function targetTest(
  modules: readonly AdaptableModule[],
  target: LoraSettings['target_modules'],
  faults: FaultList,
): (module: AdaptableModule) => boolean {
  const selects =
    typeof target === 'string' ? expressionTest(modules, target, faults) : suffixTest(modules, target, faults);
  return ({ name }) => selects(name);
}

/** The text, or the list of it alone. */
function isAllLinear(target: LoraSettings['target_modules']): boolean {
  const [name, ...others] = typeof target === 'string' ? [target] : target;
  return others.length === 0 && name?.toLowerCase() === 'all-linear';
}

function suffixTest(
  modules: readonly AdaptableModule[],
  suffixes: readonly string[],
  faults: FaultList,
): (moduleName: string) => boolean {
  for (const [index, suffix] of suffixes.entries()) {
    const param = `${TARGETS}.${index}`;
    if (isAllLinear(suffix)) {
      const message = `"all-linear" stands alone: it is every linear layer except the output head. Leave the others out.`;
      faults.add({ code: 'unmatched_target', message, param });
    } else if (!modules.some(({ name }) => hasSuffix(name, suffix))) {
      const message = `No layer is named ${JSON.stringify(suffix)}. ${namesThatExist(modules)}`;
      faults.add({ code: 'unmatched_target', message, param });
    }
  }
  return (name) => suffixes.some((suffix) => hasSuffix(name, suffix));
}

function expressionTest(
  modules: readonly AdaptableModule[],
  source: string,
  faults: FaultList,
): (moduleName: string) => boolean {
  try {
    const matches = wholeNameMatcher(source);
    if (!modules.some(({ name }) => matches(name))) {
      const message =
        `No layer's whole name matches the regular expression ${JSON.stringify(source)}. ` +
        `${namesThatExist(modules)} To select layers by the end of their names, use a list.`;
      faults.add({ code: 'unmatched_target', message, param: TARGETS });
    }
    return matches;
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    const message = `target_modules is not a supported regular expression: ${error.what}. Look-around and back-references are not supported.`;
    faults.add({ code: 'invalid_job', message, param: TARGETS });
    return () => false;
  }
}

function layerTest(
  modules: readonly AdaptableModule[],
  { layers_to_transform: layers, target_modules: target }: TargetSelection,
  faults: FaultList,
): (moduleName: string) => boolean {
  if (layers === null) return () => true;
  if (typeof target === 'string' && !isAllLinear(target)) {
    const message =
      'layers_to_transform cannot be combined with a regular expression: name the layers in target_modules.';
    faults.add({ code: 'invalid_job', message, param: LAYERS });
    return () => true;
  }
  const existing = [...new Set(modules.map(({ name }) => layerIndexOf(name)).filter((index) => index !== null))];
  for (const [position, index] of layers.entries()) {
    if (existing.includes(index)) continue;
    const there = existing.length === 0 ? 'The model has none.' : `There are: ${listed(existing)}.`;
    const message = `The model has no block ${index}. ${there}`;
    faults.add({ code: 'unmatched_target', message, param: `${LAYERS}.${position}` });
  }
  const named = new Set(typeof target === 'string' ? [] : target);
  return (name) => {
    const index = layerIndexOf(name);
    return named.has(name) || (index !== null && layers.includes(index));
  };
}

const PARAM = 'lora.exclude_modules';

/**
 * The modules that `exclude_modules` leaves out, read as PEFT does: a list of names or name suffixes, or a regular
 * expression that must match the whole name. PEFT only warns of an entry that excludes nothing. Here it is a fault: a
 * layer that should be left alone would be trained.
 *
 * @param modules - Every linear layer, the output head among them.
 */
export function excludedModules(
  modules: readonly AdaptableModule[],
  exclude: LoraSettings['exclude_modules'],
): { isExcluded: (moduleName: string) => boolean; faults: CodedFault[] } {
  if (exclude === null) return { isExcluded: () => false, faults: [] };
  if (typeof exclude === 'string') return byExpression(modules, exclude);
  const faults = exclude.flatMap((suffix, index) => {
    if (modules.some(({ name }) => hasSuffix(name, suffix))) return [];
    return [unmatched(`No layer is named ${JSON.stringify(suffix)}.`, modules, `${PARAM}.${index}`)];
  });
  return { isExcluded: (name) => exclude.some((suffix) => hasSuffix(name, suffix)), faults };
}

function byExpression(modules: readonly AdaptableModule[], source: string) {
  try {
    const isExcluded = wholeNameMatcher(source);
    const faults = modules.some(({ name }) => isExcluded(name))
      ? []
      : [unmatched(`No layer's whole name matches ${JSON.stringify(source)}.`, modules, PARAM)];
    return { isExcluded, faults };
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    const fault: CodedFault = { code: 'invalid_job', message: `exclude_modules: ${error.message}.`, param: PARAM };
    return { isExcluded: () => false, faults: [fault] };
  }
}

function unmatched(what: string, modules: readonly AdaptableModule[], param: string): CodedFault {
  return { code: 'unmatched_target', message: `${what} ${namesThatExist(modules)}`, param };
}

/** Names that a message lists before it stops. */
const LISTED_NAMES = 20;

/** A sentence that lists the last parts of the modules' names. */
export function namesThatExist(modules: readonly AdaptableModule[]): string {
  return `There are: ${listed([...new Set(modules.map(({ name }) => lastPartOf(name)))])}.`;
}

/** The first of some names, and how many more there are. */
export function listed(names: readonly (string | number)[]): string {
  const more = names.length > LISTED_NAMES ? ` and ${names.length - LISTED_NAMES} more` : '';
  return `${names.slice(0, LISTED_NAMES).join(', ')}${more}`;
}
