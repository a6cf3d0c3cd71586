import { MAX_RANK, ProductError } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { type PeftAdapter, type PeftModule, shownName } from './peft-adapter.js';

/**
 * The largest scale, number of A, and number of B with its scale; also the largest number that their product can have. A trained
 * adapter is far below it, by a factor of a thousand or more. With larger ones no activation would be finite.
 */
const MAX_NUMBER = 1e6;
/** Limits, for docs/limits.md. */
export const adapterNumberLimits = {
  number: { value: MAX_NUMBER, unit: 'at most', beyond: '422 `invalid_adapter`' },
};

/**
 * Checks that an adapter fits a base model: every module is a linear layer or a parameter of experts of the model with the same
 * sizes, ranks and scales are within limits, and every number is finite and not huge.
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
    checkNumbers(name, module);
  }
}

/** @throws ProductError invalid_adapter */
function checkNumbers(name: string, { a, b, scale, rank }: PeftModule): void {
  const [ofA, ofB] = [largest(a), largest(b) * scale];
  const found = [
    ['the scale', scale],
    ['a number of A', ofA],
    ['a number of B, with its scale,', ofB],
    ['an update', ofA * ofB * rank],
  ] as const;
  const huge = found.find(([, number]) => number > MAX_NUMBER);
  if (huge === undefined) return;
  const [what, number] = huge;
  throw invalid(
    name,
    `has numbers that no model can compute with: ${what} is up to ${number.toPrecision(3)}, and the limit is ${MAX_NUMBER}`,
  );
}

function largest(numbers: Float32Array): number {
  let most = 0;
  for (const number of numbers) most = Math.max(most, Math.abs(number));
  return most;
}

function shapeOf(outFeatures: number, inFeatures: number, experts?: number): string {
  return `[${experts === undefined ? '' : `${experts}, `}${outFeatures}, ${inFeatures}]`;
}

function invalid(module: string, fault: string): ProductError {
  const shown = shownName(module);
  return new ProductError('invalid_adapter', `The adapter does not fit: ${shown} ${fault}.`, { param: shown });
}
