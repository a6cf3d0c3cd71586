import { ProductError } from '@lorasmith/contracts';
import { type PeftAdapter, type PeftModule, shownName } from './peft-adapter.js';
import type { AdapterBase } from './peft-folder.js';

/** Prefixes of the language model of a composite: alone, and in the classes of transformers before 4.52. */
const OTHER_ROOTS = ['language_model.model.', 'language_model.', 'model.'];

/**
 * An adapter with the module paths of the class that is served. An adapter of a composite may have been trained on its language
 * model alone, whose paths lack `language_model`; servers would ignore those matrices.
 *
 * @throws ProductError invalid_adapter for two modules that are the same one
 */
export function withServedNames(adapter: PeftAdapter, { architecture, linears, parameters }: AdapterBase): PeftAdapter {
  if (architecture.kind !== 'decoder') return adapter;
  const { layers, head } = architecture.names;
  const root = layers.slice(0, layers.lastIndexOf('.') + 1);
  const ofParameters = new Set(parameters.map(({ name }) => name));
  const isServed = (name: string) => linears.has(name) || ofParameters.has(name);
  const servedName = (name: string) => {
    if (isServed(name)) return name;
    for (const other of OTHER_ROOTS.filter((prefix) => name.startsWith(prefix))) {
      const rest = name.slice(other.length);
      const served = rest === head ? head : root + rest;
      if (isServed(served)) return served;
    }
    return name;
  };
  const modules = new Map<string, PeftModule>();
  for (const [name, module] of adapter.modules) {
    const served = servedName(name);
    if (modules.has(served)) {
      const message = `The adapter has two modules for ${shownName(served)}; one is ${shownName(name)}.`;
      throw new ProductError('invalid_adapter', message, { param: shownName(name) });
    }
    modules.set(served, module);
  }
  return { ...adapter, modules };
}
