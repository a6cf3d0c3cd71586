import type { AdaptableModule, LoraSettings } from '@lorasmith/contracts';
import { hasSuffix, PatternError, wholeNameMatcher } from '@lorasmith/model-folder';
import type { CodedFault } from './fault-list.js';
import { namesThatExist } from './module-names.js';

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
