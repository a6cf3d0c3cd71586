import type { AdaptableModule, Fault } from '@lorasmith/contracts';
import { type ModelFolder, targetParametersOf } from '@lorasmith/model-folder';

/** Share of a base model's parameters that are in these layers and experts, in percent. */
export function adaptedPercent(
  { parameterCount }: Pick<ModelFolder, 'parameterCount'>,
  targets: readonly AdaptableModule[],
): number {
  const adapted = targets.reduce(
    (sum, { in_features, out_features, experts = 1 }) => sum + experts * in_features * out_features,
    0,
  );
  return (100 * adapted) / parameterCount;
}

/** A warning of a job that leaves the experts of a mixture as they are: most of its parameters are in them. */
export function expertWarnings(
  model: Pick<ModelFolder, 'parameters' | 'parameterCount'>,
  targets: readonly AdaptableModule[],
): Fault[] {
  const names = model.parameters.map(({ name }) => name);
  if (names.length === 0 || targets.some(({ experts }) => experts !== undefined)) return [];
  const advice = `To adapt them too, add "target_parameters": ${JSON.stringify(targetParametersOf(names, names))}.`;
  const share = adaptedPercent(model, targets).toPrecision(2);
  const message = `The adapted layers have ${share} % of the base model's parameters: its experts are not adapted, since target_modules does not select them. ${advice}`;
  return [{ code: 'experts_not_adapted', message, param: 'lora.target_parameters' }];
}
