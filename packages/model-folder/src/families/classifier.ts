import type { Activation, ClassifierArchitecture } from '../architecture.js';
import type { ConfigFields } from '../config/config-fields.js';
import { type Family, type LinearLayer, linearTensors } from './family.js';

const ACTIVATIONS: readonly Activation[] = ['relu', 'gelu', 'silu', 'tanh', 'sigmoid'];
const MAX_LAYERS = 1_000;
const MAX_WIDTH = 2 ** 24;

/**
 * A stack of linear layers, as saved by `nn.Sequential(Linear, activation, Linear, …)`: every second index has weights.
 *
 * config.json: `{"model_type": "classifier", "layers": [128, 256, 10], "activation": "relu"}`.
 */
export const classifier: Family<ClassifierArchitecture> = {
  covers: null,
  readArchitecture({ config, hasTensor }) {
    const widths = readWidths(config);
    const layers = widths.slice(1).map((outFeatures, index) => {
      const name = String(2 * index);
      return { name, inFeatures: widths[index]!, outFeatures, bias: hasTensor(`${name}.bias`) };
    });
    return { kind: 'classifier', family: 'classifier', layers, activation: readActivation(config) };
  },

  layout({ layers }) {
    const linears = layers.map(({ name, inFeatures, outFeatures, bias }): LinearLayer => {
      const tensors = { weight: `${name}.weight`, bias: bias ? `${name}.bias` : null };
      return { name, inFeatures, outFeatures, ...tensors, transposed: false };
    });
    return { tensors: linears.flatMap(linearTensors), linears, head: null };
  },
};

function readWidths(config: ConfigFields): number[] {
  const widths = config.value('layers');
  const isWidth = (width: unknown) =>
    Number.isSafeInteger(width) && (width as number) > 0 && (width as number) <= MAX_WIDTH;
  if (!Array.isArray(widths) || widths.length < 2 || widths.length > MAX_LAYERS || !widths.every(isWidth)) {
    throw config.corrupt('layers', `must list 2 to ${MAX_LAYERS} widths from 1 to ${MAX_WIDTH}, as in [128, 256, 10]`);
  }
  return widths as number[];
}

function readActivation(config: ConfigFields): Activation {
  const name = config.text('activation');
  if (name === undefined) throw config.corrupt('activation', `is missing; one of ${ACTIVATIONS.join(', ')}`);
  const activation = ACTIVATIONS.find((known) => known === name);
  if (!activation) throw config.unsupported('activation', `is not supported; ${ACTIVATIONS.join(', ')} are`);
  return activation;
}
