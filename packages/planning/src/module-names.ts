import type { AdaptableModule } from '@lorasmith/contracts';
import { lastPartOf } from '@lorasmith/model-folder';

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

/**
 * The number of the block that a module lies in, as PEFT finds it without a `layers_pattern`: the first part of the name
 * that is a number, with at least two parts before it and one after. Null for a module outside of blocks.
 */
export function layerIndexOf(moduleName: string): number | null {
  const index = /^[^\n]*?\.[^.]*\.(\d+)\./.exec(moduleName)?.[1];
  return index === undefined ? null : Number(index);
}
