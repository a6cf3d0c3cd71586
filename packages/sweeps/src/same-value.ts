import type { SweepValue, VariantValues } from '@lorasmith/contracts';

/** Whether two values of a field are the same. Lists are, if they have the same names in the same order. */
export function sameValue(one: SweepValue, other: SweepValue): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** The values as a reader of a message knows them: `lora.r 8, training.learning_rate 0.001`. */
export function valuesText(values: VariantValues): string {
  return Object.entries(values)
    .map(([path, value]) => `${path} ${JSON.stringify(value)}`)
    .join(', ');
}
