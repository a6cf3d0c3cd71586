import type { Activation } from '../architecture.js';
import type { ConfigFields } from '../config-fields.js';

/** By the names that transformers has for them. */
const ACTIVATIONS: ReadonlyMap<string, Activation> = new Map([
  ['relu', 'relu'],
  ['relu2', 'relu2'],
  ['gelu', 'gelu'],
  ['gelu_python', 'gelu'],
  ['gelu_new', 'gelu_tanh'],
  ['gelu_fast', 'gelu_tanh'],
  ['gelu_accurate', 'gelu_tanh'],
  ['gelu_pytorch_tanh', 'gelu_tanh'],
  ['gelu_python_tanh', 'gelu_tanh'],
  ['quick_gelu', 'quick_gelu'],
  ['silu', 'silu'],
  ['swish', 'silu'],
  ['tanh', 'tanh'],
  ['sigmoid', 'sigmoid'],
]);

/** @throws ProductError model_not_supported */
export function readActivation(config: ConfigFields, field: string, fallback: string): Activation {
  const activation = ACTIVATIONS.get(config.text(field) ?? fallback);
  if (!activation) throw config.unsupported(field, `is not supported; ${[...ACTIVATIONS.keys()].join(', ')} are`);
  return activation;
}
