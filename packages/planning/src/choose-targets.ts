import { type AdaptableModule, type LoraSettings, ProductError } from '@lorasmith/contracts';
import { hasSuffix, PatternError, wholeNameMatcher } from '@lorasmith/model-folder';
import { excludedModules } from './excluded-modules.js';
import { FaultList } from './fault-list.js';
import { layerIndexOf, listed, namesThatExist } from './module-names.js';

/** The settings that select the layers that LoRA adapts. */
export type TargetSelection = Pick<LoraSettings, 'target_modules' | 'exclude_modules' | 'layers_to_transform'>;

const TARGETS = 'lora.target_modules';
const LAYERS = 'lora.layers_to_transform';

/**
 * The layers that LoRA adapts, selected as PEFT selects them. `target_modules` is a list of names or name suffixes, or a
 * regular expression that must match the whole name, or `all-linear` (also as a list of one): every linear layer but the
 * output head, which a name or an expression may select. Those of `exclude_modules` are left out. With `layers_to_transform`, which does not go with an expression,
 * only layers of these blocks are adapted; a module that is named in full is adapted anyway.
 *
 * Expressions are matched in linear time (RE2), so none can hang the service; what RE2 lacks (look-around,
 * back-references) is refused.
 *
 * @param model - `modules`: every linear layer but the output head; `headModule`: the head, if there is one.
 * @returns The chosen ones in the order of the model.
 * @throws ProductError `unmatched_target` with a fault for each entry that matches nothing, naming what there is, and
 * when nothing is left; `invalid_job` for what is no regular expression.
 */
export function chooseTargets(
  { modules, headModule }: { modules: readonly AdaptableModule[]; headModule: AdaptableModule | null },
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
  faults.throwIfAny();

  const targeted = linear.filter(isTarget);
  const inLayers = targeted.filter(({ name }) => isInLayers(name));
  const chosen = inLayers.filter(({ name }) => !isExcluded(name));
  if (chosen.length > 0) return chosen;
  const [param, what] =
    inLayers.length > 0
      ? (['lora.exclude_modules', 'exclude_modules excludes every layer that target_modules selects'] as const)
      : ([LAYERS, 'None of these blocks has a layer that target_modules selects'] as const);
  throw new ProductError('unmatched_target', `${what}: there is nothing to train.`, { param });
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
