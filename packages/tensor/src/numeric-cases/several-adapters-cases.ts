import { multiply } from '../arithmetic.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import { type LoraPart, parametersOf } from '../kernels/lora.js';
import { concat, rowsOf } from '../layout.js';
import type { FloatDType, Tensor } from '../tensor.js';
import { constant, tensorOf, toFloat32Array } from '../transfer.js';
import { FUSED_AND_PLAIN, SAME_BITS, spreadTensor, type TestCase, testCase } from './numeric-case.js';

interface AdapterShape {
  rows: [first: number, count: number];
  ranks: [rank: number, firstRow: number, outFeatures: number][];
  /** Share of what dropout leaves out. */
  rate: number;
}

interface GroupShape {
  name: string;
  inFeatures: number;
  outFeatures: number;
  adapters: AdapterShape[];
}

/** Adapters of one group: other ranks, layers, rows and dropout. Ranks of 16, 17, 32 and 33 fill panels in different ways. */
const GROUPS: readonly GroupShape[] = [
  {
    name: 'several, with rows of none before, between and after',
    inFeatures: 96,
    outFeatures: 160,
    adapters: [
      {
        rows: [3, 30],
        ranks: [
          [8, 0, 96],
          [5, 96, 32],
        ],
        rate: 0,
      },
      { rows: [33, 1], ranks: [[17, 96, 32]], rate: 0.3 },
      {
        rows: [40, 57],
        ranks: [
          [33, 0, 96],
          [1, 128, 32],
        ],
        rate: 0.5,
      },
      {
        rows: [97, 2],
        ranks: [
          [16, 0, 96],
          [16, 96, 32],
          [16, 128, 32],
        ],
        rate: 0,
      },
    ],
  },
  {
    name: 'sizes that fill no panel',
    inFeatures: 50,
    outFeatures: 71,
    adapters: [
      {
        rows: [0, 61],
        ranks: [
          [3, 0, 13],
          [4, 40, 31],
        ],
        rate: 0.1,
      },
      { rows: [61, 39], ranks: [[32, 13, 27]], rate: 0 },
    ],
  },
  {
    name: 'an odd depth',
    inFeatures: 37,
    outFeatures: 20,
    adapters: [{ rows: [0, 100], ranks: [[6, 0, 20]], rate: 0.2 }],
  },
  {
    name: 'one of many rows',
    inFeatures: 1024,
    outFeatures: 64,
    adapters: [{ rows: [0, 1100], ranks: [[4, 0, 64]], rate: 0 }],
  },
];

/** The products of adapters that share a stream; and each of several, which has the bits that it has alone. */
export function severalAdaptersTests(dtype: FloatDType): TestCase[] {
  return GROUPS.flatMap((group) => [
    productsTest(dtype, group),
    ...(group.adapters.length > 1 ? [aloneTest(dtype, group)] : []),
  ]);
}

/** An adapter has the same numbers wherever its rows are. */
function partOf(kernels: KernelSet, group: GroupShape, index: number, dtype: FloatDType, first?: number): LoraPart {
  const { inFeatures, outFeatures } = group;
  const { rows, ranks, rate } = group.adapters[index]!;
  const adapted = ranks.map(([rank, firstRow, own]) => ({ rank, firstRow, outFeatures: own, scale: 3 / (rank + 1) }));
  const layout = { offset: 5, inFeatures, outFeatures, adapted };
  const parameters = spreadTensor([5 + parametersOf(layout) + 3], 89 + index, 1);
  return {
    rows: { first: first ?? rows[0], count: rows[1] },
    parameters,
    layout,
    weights: () => kernels.of(dtype).loraWeights(parameters, layout, dtype),
    dropout: rate === 0 ? null : { rate, seed: [rows[0], 9] },
  };
}

interface Stream {
  base: Tensor;
  x: Tensor;
  gradient: Tensor;
  byFrozen: Tensor;
}

/** A stream with a row of no adapter at its end. */
function streamOf({ inFeatures, outFeatures, adapters }: GroupShape, dtype: FloatDType): Stream {
  const [first, count] = adapters.at(-1)!.rows;
  const tokens = first + count + 1;
  return {
    base: spreadTensor([tokens, outFeatures], 93, 1, dtype),
    x: spreadTensor([tokens, inFeatures], 94, 1, dtype),
    gradient: spreadTensor([tokens, outFeatures], 95, 0.1, dtype),
    byFrozen: spreadTensor([tokens, inFeatures], 96, 1, dtype),
  };
}

const rowsOfParts = (x: Tensor, parts: readonly LoraPart[]) =>
  concat(
    parts.map(({ rows }) => rowsOf(x, rows)),
    0,
  );

function productsTest(dtype: FloatDType, group: GroupShape): TestCase {
  return testCase(`loraForward and loraBackward ${dtype}, ${group.name}`, FUSED_AND_PLAIN[dtype], (kernels) => {
    const { loraForward, loraBackward } = kernels.of(dtype);
    const parts = group.adapters.map((_, index) => partOf(kernels, group, index, dtype));
    const { base, x, gradient, byFrozen } = streamOf(group, dtype);
    const { output, low } = loraForward(base, x, parts);
    const saved = rowsOfParts(x, parts);
    const { byInput, byParameters } = loraBackward(gradient, saved, low, byFrozen, parts);
    const unwanted = loraBackward(gradient, saved, low, null, parts);
    const named = (name: string, tensors: readonly Tensor[]) =>
      Object.fromEntries(tensors.map((tensor, index) => [`${name} of adapter ${index + 1}`, tensor]));
    return {
      ...{ output, byInput: byInput! },
      ...named('gradient', byParameters),
      ...named('gradient, without one by the input,', unwanted.byParameters),
    };
  });
}

/** The output and both gradients of each, beside the others and beside others of which the first is NaN. */
function aloneTest(dtype: FloatDType, group: GroupShape): TestCase {
  const run = (kernels: KernelSet, stream: Stream, parts: readonly LoraPart[]): Tensor[][] => {
    const { loraForward, loraBackward } = kernels.of(dtype);
    const copy = (x: Tensor) => multiply(x, constant(1, dtype));
    const { output, low } = loraForward(copy(stream.base), stream.x, parts);
    const saved = rowsOfParts(stream.x, parts);
    const { byInput, byParameters } = loraBackward(stream.gradient, saved, low, copy(stream.byFrozen), parts);
    return parts.map(({ rows }, i) => [rowsOf(output, rows), rowsOf(byInput!, rows), byParameters[i]!]);
  };
  const named = (together: readonly Tensor[][], besideNaN: readonly Tensor[][], haveNaN: readonly boolean[]) => ({
    ...resultsOf('together', together),
    ...resultsOf('beside NaN', besideNaN),
    'results of the first that have NaN': tensorOf(Float32Array.from(haveNaN, Number), [haveNaN.length]),
  });
  const beside = (kernels: KernelSet) => {
    const stream = streamOf(group, dtype);
    const parts = group.adapters.map((_, index) => partOf(kernels, group, index, dtype));
    // NaN in the parameters of the first stays there.
    const broken = { ...parts[0]!, parameters: multiply(parts[0]!.parameters, constant(Number.NaN)) };
    const [ofBroken, ...others] = run(kernels, stream, [broken, ...parts.slice(1)]);
    const haveNaN = ofBroken!.map((result) => toFloat32Array(result).some(Number.isNaN));
    return named(run(kernels, stream, parts), others, haveNaN);
  };
  const alone = (kernels: KernelSet) => {
    const stream = streamOf(group, dtype);
    const each = group.adapters.flatMap(({ rows: [first, count] }, index) => {
      const own = (x: Tensor) => rowsOf(x, { first, count });
      const { base, x, gradient, byFrozen } = stream;
      const rows = { base: own(base), x: own(x), gradient: own(gradient), byFrozen: own(byFrozen) };
      return run(kernels, rows, [partOf(kernels, group, index, dtype, 0)]);
    });
    return named(each, each.slice(1), [true, true, true]);
  };
  const title = `loraForward and loraBackward ${dtype}, ${group.name}: each as alone`;
  return testCase(title, SAME_BITS, beside, { kernels: 'same', compute: alone });
}

function resultsOf(name: string, adapters: readonly Tensor[][]): Record<string, Tensor> {
  const entries = adapters.flatMap((results, adapter) =>
    results.map((result, i) => [`${name}: adapter ${adapter + 1}, result ${i + 1}`, result] as const),
  );
  return Object.fromEntries(entries);
}
