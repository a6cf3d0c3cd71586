import { MAX_RANK, ProductError } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import type { PeftAdapter } from './peft-adapter.js';
import { shownName } from './shown.js';

/**
 * Checks that an adapter fits a base model: every module is a linear layer or a parameter of experts of the model with the same
 * sizes, ranks and scales are within limits, and every number is finite.
 *
 * @throws ProductError invalid_adapter naming the module
 */
export function checkFitsBase(adapter: PeftAdapter, model: ModelFolder): void {
  const { modules, parameters, headModule } = model;
  const layers = new Map([...modules, ...parameters].map((layer) => [layer.name, layer]));
  if (headModule !== null) layers.set(headModule.name, headModule);
  for (const [name, module] of adapter.modules) {
    const { a, b, rank, scale, inFeatures, outFeatures, experts } = module;
    const layer = layers.get(name);
    if (layer === undefined) {
      throw invalid(
        name,
        `is not a linear layer, or a parameter of experts that can be adapted, of the base model ${model.name}`,
      );
    }
    const shape = shapeOf(outFeatures, inFeatures, experts);
    const actual = shapeOf(layer.out_features, layer.in_features, layer.experts);
    if (shape !== actual) throw invalid(name, `is for a weight of ${shape}, but that of ${model.name} is ${actual}`);
    if (rank > MAX_RANK) throw invalid(name, `has rank ${rank}; the maximum is ${MAX_RANK}`);
    if (!Number.isFinite(scale) || scale <= 0) throw invalid(name, `has the scale ${scale}, which must be above 0`);
    if (!a.every(Number.isFinite) || !b.every(Number.isFinite)) {
      throw invalid(name, 'contains a number that is not finite');
    }
  }
}

function shapeOf(outFeatures: number, inFeatures: number, experts?: number): string {
  return `[${experts === undefined ? '' : `${experts}, `}${outFeatures}, ${inFeatures}]`;
}

function invalid(module: string, fault: string): ProductError {
  const shown = shownName(module);
  return new ProductError('invalid_adapter', `The adapter does not fit: ${shown} ${fault}.`, { param: shown });
}
