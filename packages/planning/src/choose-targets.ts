import { type AdaptableModule, type Fault, type LoraSettings, ProductError } from '@lorasmith/contracts';
import { RE2JS } from 're2js';

/** Names that a message lists before it stops. */
const LISTED_NAMES = 20;

/**
 * The layers that LoRA goes on, chosen as PEFT does it: a list of names or name suffixes, `all-linear` (every linear
 * layer but the output head), or a regular expression that must match the whole name.
 *
 * Expressions are matched in linear time (RE2), so none can hang the service; what RE2 lacks (look-around,
 * back-references) is refused.
 *
 * @param modules - Every adaptable layer of the model.
 * @param options - `headModule`: the output head, which is never adapted; naming it is an error, not a silent omission.
 * @returns The chosen ones in the order of the model.
 * @throws ProductError `unmatched_target` with a fault for each entry that matches nothing, naming what there is;
 * `invalid_job` for what is no regular expression.
 */
export function chooseTargets(
  modules: readonly AdaptableModule[],
  targetModules: LoraSettings['target_modules'],
  { headModule }: { headModule: AdaptableModule | null },
): AdaptableModule[] {
  if (typeof targetModules !== 'string') return chooseBySuffixes(modules, targetModules, headModule);
  if (targetModules.toLowerCase() === 'all-linear') return [...modules];
  return chooseByExpression(modules, targetModules, headModule);
}

function chooseBySuffixes(
  modules: readonly AdaptableModule[],
  suffixes: readonly string[],
  head: AdaptableModule | null,
): AdaptableModule[] {
  const faults: Fault[] = [];
  for (const [index, suffix] of suffixes.entries()) {
    const param = `lora.target_modules.${index}`;
    if (head !== null && hasSuffix(head.name, suffix)) faults.push(headFault(suffix, param));
    else if (!modules.some(({ name }) => hasSuffix(name, suffix))) {
      const message = `No layer is named ${JSON.stringify(suffix)}. ${namesThatExist(modules)}`;
      faults.push({ code: 'unmatched_target', message, param });
    }
  }
  throwIfAny(faults);
  return modules.filter(({ name }) => suffixes.some((suffix) => hasSuffix(name, suffix)));
}

function hasSuffix(name: string, suffix: string): boolean {
  return name === suffix || name.endsWith(`.${suffix}`);
}

function chooseByExpression(
  modules: readonly AdaptableModule[],
  source: string,
  head: AdaptableModule | null,
): AdaptableModule[] {
  const param = 'lora.target_modules';
  const expression = compile(source, param);
  if (head !== null && expression.matches(head.name)) throwIfAny([headFault(source, param)]);
  const chosen = modules.filter(({ name }) => expression.matches(name));
  if (chosen.length === 0) {
    const message =
      `No layer's whole name matches the regular expression ${JSON.stringify(source)}. ` +
      `${namesThatExist(modules)} To name layers by the end of their names, give a list.`;
    throwIfAny([{ code: 'unmatched_target', message, param }]);
  }
  return chosen;
}

function compile(source: string, param: string): RE2JS {
  try {
    return RE2JS.compile(source);
  } catch (cause) {
    const what = (cause as Error).message.replace(/^error parsing regexp: /, '');
    const message = `target_modules is not a regular expression that can be used here: ${what}. Look-around and back-references are not supported.`;
    throw new ProductError('invalid_job', message, {
      param,
      cause,
      details: [{ code: 'invalid_job', message, param }],
    });
  }
}

function headFault(target: string, param: string): Fault {
  const message = `${JSON.stringify(target)} takes in the output head, which is not adapted. Leave it out, or use "all-linear".`;
  return { code: 'unmatched_target', message, param };
}

function namesThatExist(modules: readonly AdaptableModule[]): string {
  const names = [...new Set(modules.map(({ name }) => name.slice(name.lastIndexOf('.') + 1)))];
  const more = names.length > LISTED_NAMES ? ` and ${names.length - LISTED_NAMES} more` : '';
  return `There are: ${names.slice(0, LISTED_NAMES).join(', ')}${more}.`;
}

function throwIfAny(faults: Fault[]): void {
  const [first] = faults;
  if (first === undefined) return;
  throw new ProductError('unmatched_target', first.message, { param: first.param, details: faults });
}
