import {
  chooseKernels,
  dispose,
  type StreamGradient,
  scope,
  type Tensor,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { adapterOf, BiasAdapter } from '../../test/bias-adapter.js';
import { DenseLinear, type LinearGroup } from '../frozen-linear.js';
import type { ModelAdapter } from '../pass.js';
import { Block, type BlockContext, freeStream, streamSum } from './block.js';
import { DecoderLayer } from './decoder-layer.js';
import { LayerInputBranch, LayerInputs } from './layer-inputs.js';
import { Norm } from './norm.js';

const kernels = chooseKernels('raw');

const [TOKENS, HIDDEN, SIZE, LAYERS, VOCAB] = [3, 5, 4, 2, 7];
const IDS = Int32Array.of(6, 0, 3);
const EMBEDDED = normalNumbers(TOKENS * HIDDEN, 1);
const STREAM = normalNumbers(TOKENS * HIDDEN, 2);
const BY_OUTPUT = normalNumbers(TOKENS * HIDDEN, 3);
/** The factors of the stream after the layers. */
const FACTORS = [0.4, 1.7];

/** Layers of nothing but the branch that reads their input. */
interface Model {
  inputs: LayerInputs;
  layers: DecoderLayer[];
}

let model: Model;
let projection: BiasAdapter;
let gate: BiasAdapter;
beforeAll(() => {
  const tensor = (seed: number, shape: [number, number]) => tensorOf(normalNumbers(shape[0] * shape[1], seed), shape);
  const group = (name: string, seed: number, outFeatures: number, inFeatures: number): LinearGroup => ({
    modules: [{ name, outFeatures }],
    linear: new DenseLinear(kernels, tensor(seed, [outFeatures, inFeatures]), null),
  });
  const norm = (seed: number, size: number) => {
    return new Norm(
      kernels,
      { kind: 'rms', epsilon: 1e-2, weightOffset: 0 },
      tensorOf(normalNumbers(size, seed), [size]),
      null,
    );
  };
  model = {
    inputs: new LayerInputs(
      {
        embedding: tensor(4, [VOCAB, LAYERS * SIZE]),
        projection: group('projection', 5, LAYERS * SIZE, HIDDEN),
        norm: norm(6, SIZE),
      },
      LAYERS,
    ),
    layers: FACTORS.map((factor, layer) => {
      const branch = new LayerInputBranch(layer, 'gelu_tanh', {
        gate: group(`gate.${layer}`, 7 + layer, SIZE, HIDDEN),
        output: group(`output.${layer}`, 9 + layer, HIDDEN, SIZE),
      });
      const block = new Block({ norm: null, sublayer: branch, branchNorm: norm(11 + layer, HIDDEN) });
      return new DecoderLayer([block], factor);
    }),
  };
  projection = new BiasAdapter(model.inputs.group);
  gate = new BiasAdapter(model.layers[0]!.groups[0]!);
});
afterAll(() => {
  model.inputs.dispose();
  for (const layer of model.layers) layer.dispose();
  projection.dispose();
  gate.dispose();
});

const biases = (): ModelAdapter =>
  adapterOf([
    [model.inputs.group, projection],
    [model.layers[0]!.groups[0]!, gate],
  ]);

/** The context of a pass in which no token sees another. */
function contextOf(adapter: ModelAdapter | null, record: boolean): BlockContext {
  const adapters = adapter === null ? [] : [{ adapter }];
  const context: Partial<BlockContext> = { adapters, record, queryFactors: null, wanted: null };
  const own = context as BlockContext;
  return { ...own, layerInputs: model.inputs.forward(IDS, tensorOf(EMBEDDED, [TOKENS, HIDDEN]), own) };
}

/** The stream after all layers; nothing is recorded. */
function output(stream: Float32Array<ArrayBuffer>, adapter: ModelAdapter | null): Float32Array {
  return scope(() => {
    const context = contextOf(adapter, false);
    let current = { x: tensorOf(stream, [TOKENS, HIDDEN]), branch: null as Tensor | null, ownsX: true };
    for (const layer of model.layers) current = layer.forward(current, context).stream;
    context.layerInputs!.dispose();
    return toFloat32Array(streamSum(current));
  });
}

/** Gradient of the loss `Σ BY_OUTPUT · output` by the stream; the biases have theirs. */
function gradient(adapter: ModelAdapter | null): Float32Array {
  return scope(() => {
    const context = contextOf(adapter, true);
    let current = { x: tensorOf(STREAM, [TOKENS, HIDDEN]), branch: null as Tensor | null, ownsX: true };
    const saved = model.layers.map((layer) => {
      const after = layer.forward(current, context);
      current = after.stream;
      return after.saved!;
    });
    freeStream(current);
    const byOutput = () => tensorOf(BY_OUTPUT, [TOKENS, HIDDEN]);
    let by: StreamGradient = { exact: byOutput(), rounded: byOutput() };
    for (let layer = LAYERS - 1; layer >= 0; layer--) {
      by = model.layers[layer]!.backward(by, saved[layer]!, context, true)!;
    }
    model.inputs.backward(context);
    const values = toFloat32Array(by.exact);
    dispose([by.exact, by.rounded]);
    return values;
  });
}

const loss = (stream: Float32Array<ArrayBuffer>, adapter: ModelAdapter | null = null) =>
  weightedSum(output(stream, adapter), BY_OUTPUT);

describe('layers that read an input of their own, with factors', () => {
  test('the gradient by the stream is that of finite differences', () => {
    const numeric = centralDifferences((values) => loss(values), STREAM);
    expect(differenceByLargest(gradient(null), numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });

  test.each([
    ['the projection to the inputs of all layers', () => projection, LAYERS * SIZE],
    ['the gate of the first layer', () => gate, SIZE],
  ] as const)('the gradient by the output of %s is that of finite differences', (_, biasOf, size) => {
    const bias = biasOf();
    const adapter = biases();
    const numeric = centralDifferences((values) => {
      bias.setBias(values);
      return loss(STREAM, adapter);
    }, new Float32Array(size));
    bias.setBias(new Float32Array(size));
    for (const each of [projection, gate]) each.takeGradient();
    gradient(adapter);
    expect(differenceByLargest(bias.takeGradient(), numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });

  test('an input is `(√size · embedding + norm(W x / √hidden)) / √2`', () => {
    const weights = normalNumbers(LAYERS * SIZE * HIDDEN, 5);
    const embedding = normalNumbers(VOCAB * LAYERS * SIZE, 4);
    const norm = normalNumbers(SIZE, 6);
    const expected = (token: number, layer: number) => {
      const projected = Array.from({ length: SIZE }, (_, i) => {
        const row = weights.subarray((layer * SIZE + i) * HIDDEN).subarray(0, HIDDEN);
        return weightedSum(EMBEDDED.subarray(token * HIDDEN), row) / Math.sqrt(HIDDEN);
      });
      const rms = Math.sqrt(weightedSum(projected, projected) / SIZE + 1e-2);
      const own = embedding.subarray(IDS[token]! * LAYERS * SIZE + layer * SIZE);
      return projected.map((value, i) => (Math.sqrt(SIZE) * own[i]! + (value / rms) * norm[i]!) / Math.SQRT2);
    };
    scope(() => {
      const { layerInputs } = contextOf(null, false);
      for (let layer = 0; layer < LAYERS; layer++) {
        const all = Array.from({ length: TOKENS }, (_, token) => expected(token, layer)).flat();
        expect(greatestDifference(toFloat32Array(layerInputs!.of(layer)), Float32Array.from(all))).toBeLessThan(1e-5);
      }
      layerInputs!.dispose();
    });
  });
});
