import type { AttentionSettings } from '../kernels/attention.js';
import type { DeltaInputs, DeltaSettings } from '../kernels/gated-delta.js';
import type { Kernels } from '../kernels/kernels.js';
import type { RotaryAngles } from '../kernels/rotary.js';
import { tokenRows } from '../kernels/token-rows.js';
import { gather, split } from '../layout.js';
import type { FloatDType, Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import {
  ATTENTION,
  type CaseSizes,
  FUSED_AND_PLAIN,
  kernelSubject,
  type NumericCase,
  SUM,
  seededTensor,
  spreadTensor,
  type TestCase,
  testCase,
} from './numeric-case.js';

/** The first positions of a row, which are judged together. A query sees few keys there, so that its numbers differ most in size. */
const FIRST_POSITIONS = 8;

/**
 * The results of attention, cut by the position of their token in its row: positions 0 to 7, 8 to 15, 16 to 31, and so on, each part twice
 * as long as the one before. Numbers shrink with the position, as weights do: those of token i have a root mean square of about
 * 1 / √i. Within a part it changes by less than half, so that the tolerance of a part suits each of its tokens.
 * @param x `[tokens, width]`
 * @param positions of each token in its row
 */
export function byPosition(name: string, x: Tensor, positions: readonly number[]): Record<string, Tensor> {
  const parts = new Map<number, number[]>();
  for (const [token, position] of positions.entries()) {
    const first = position < FIRST_POSITIONS ? 0 : 2 ** Math.floor(Math.log2(position));
    const own = parts.get(first);
    if (own === undefined) parts.set(first, [token]);
    else own.push(token);
  }
  const inOrder = [...parts].sort(([a], [b]) => a - b);
  return Object.fromEntries(
    inOrder.map(([first, tokens]) => {
      const last = (first === 0 ? FIRST_POSITIONS : 2 * first) - 1;
      return [
        `${name} at positions ${first} to ${last}`,
        gather(x, tensorOf(Int32Array.from(tokens), [tokens.length])),
      ];
    }),
  );
}

/** The position of each token in its row. */
export function positionsIn(lengths: readonly number[]): number[] {
  return lengths.flatMap((length) => [...Array(length).keys()]);
}

const THETA = 10_000;

interface AttentionShape {
  name: string;
  heads: number;
  keyValueHeads: number;
  lengths: number[];
  window?: number;
  softcap?: number;
  /** True if each head has a sink. */
  hasSinks?: boolean;
}

/**
 * Rows that end within a tile, at its end and after it; each a length of its own, so that no row hides another's offset. The largest heads
 * have shorter rows: the tolerance is for some tens of thousands of numbers.
 */
function attentionShapes(headDim: number, sizes: CaseSizes): AttentionShape[] {
  const small: AttentionShape[] = [
    { name: 'two heads to a key', heads: 2, keyValueHeads: 1, lengths: [headDim > 256 ? 33 : 65, 7, 1] },
    { name: 'window and soft cap', heads: 1, keyValueHeads: 1, lengths: [33, 64], window: 9, softcap: 4 },
    { name: 'sinks and a window', heads: 2, keyValueHeads: 1, lengths: [33, 3], window: 20, hasSinks: true },
  ];
  if (sizes === 'small') return small;
  return [
    ...small,
    { name: 'a key to each head', heads: 3, keyValueHeads: 3, lengths: [1, 63, 64, 65, 127, 128, 129] },
    { name: 'a long row', heads: 8, keyValueHeads: 2, lengths: [1_000, 24] },
    { name: 'a long row with a window', heads: 4, keyValueHeads: 1, lengths: [700], window: 256 },
  ];
}

/** A case of attention over rows, which another implementation than that in use can compute, too. */
export interface AttentionCase extends NumericCase {
  computeWith(batchAttention: Kernels['batchAttention']): Readonly<Record<string, Tensor>>;
}

/** The output and its gradients by queries, keys and values, each by position. */
export function attentionCases(dtype: FloatDType, headDim: number, sizes: CaseSizes): AttentionCase[] {
  return attentionShapes(headDim, sizes).map((shape) => {
    const { heads, keyValueHeads, lengths, window = null, softcap = null, hasSinks = false } = shape;
    const settings: AttentionSettings = {
      ...{ heads, keyValueHeads, headDim, window, softcap },
      scale: 1 / Math.sqrt(headDim),
    };
    const positions = positionsIn(lengths);
    const tokens = positions.length;
    const computeWith = (batchAttention: Kernels['batchAttention']) => {
      const angles = anglesAt([...Array(Math.max(...lengths)).keys()], headDim);
      const attention = batchAttention({ lengths, heads, angles, windows: [window] });
      const qkv = seededTensor([tokens, (heads + 2 * keyValueHeads) * headDim], 10, dtype);
      const own = hasSinks ? { ...settings, sinks: seededTensor([heads], 12) } : settings;
      const { output, saved } = attention.forward(qkv, own, true);
      const byOutput = seededTensor([tokens, heads * headDim], 11, dtype);
      const gradient = attention.backward(byOutput, saved!, own);
      const widths = [heads, keyValueHeads, keyValueHeads].map((count) => count * headDim);
      const [byQuery, byKey, byValue] = split(gradient, widths, 1);
      return {
        ...byPosition('output', output, positions),
        ...byPosition('gradient by queries', byQuery!, positions),
        ...byPosition('gradient by keys', byKey!, positions),
        ...byPosition('gradient by values', byValue!, positions),
      };
    };
    return {
      name: `attention ${dtype}, head size ${headDim}, ${shape.name}`,
      subject: kernelSubject('batchAttention', dtype, headDim),
      tolerance: { ...ATTENTION[dtype], rowSize: headDim },
      compute: (kernels) => computeWith(kernels.of(dtype).batchAttention),
      computeWith,
    };
  });
}

/** The angles of tokens at these positions (arXiv:2104.09864). */
export function anglesAt(positions: readonly number[], headDim: number): RotaryAngles {
  const half = headDim / 2;
  const size = positions.length * half;
  const [cosine, sine] = [new Float32Array(size), new Float32Array(size)];
  for (let i = 0; i < size; i++) {
    const angle = positions[Math.floor(i / half)]! * THETA ** -((i % half) / half);
    cosine[i] = Math.cos(angle);
    sine[i] = Math.sin(angle);
  }
  return { cosine: tensorOf(cosine, [positions.length, half]), sine: tensorOf(sine, [positions.length, half]) };
}

/** Heads, and what attention does beside: of tests. */
export interface TestedAttention extends Omit<AttentionSettings, 'scale' | 'sinks'> {
  hasSinks: boolean;
}

const KINDS: readonly Pick<TestedAttention, 'window' | 'softcap' | 'hasSinks'>[] = [
  { window: null, softcap: null, hasSinks: false },
  { window: 5, softcap: null, hasSinks: true },
  { window: null, softcap: 2, hasSinks: false },
  { window: null, softcap: null, hasSinks: true },
  { window: 33, softcap: 1.5, hasSinks: true },
];

/** Each kind with one head, with grouped queries and with wide heads. */
export const TESTED_ATTENTION: readonly { name: string; tested: TestedAttention }[] = [
  { name: 'one head', heads: 1, keyValueHeads: 1, headDim: 16 },
  { name: 'grouped queries', heads: 6, keyValueHeads: 2, headDim: 8 },
  { name: 'wide heads', heads: 4, keyValueHeads: 4, headDim: 80 },
].flatMap(({ name, ...heads }) =>
  KINDS.map((kind) => ({ name: `${name}, ${kindName(kind)}`, tested: { ...heads, ...kind } })),
);

function kindName({ window, softcap, hasSinks }: (typeof KINDS)[number]): string {
  return `window ${window ?? 'none'}, soft cap ${softcap ?? 'none'}, ${hasSinks ? 'sinks' : 'no sinks'}`;
}

/** Settings whose sinks are from a logit below the scores to one above them. */
export function settingsOf(
  { hasSinks, ...own }: TestedAttention,
  scale = 1 / Math.sqrt(own.headDim),
): AttentionSettings {
  const { heads } = own;
  const sinks = Float32Array.from({ length: heads }, (_, head) => (7 * (head + 1)) / heads - 2);
  return { ...own, scale, sinks: hasSinks ? tensorOf(sinks, [heads]) : undefined };
}

/** Rows of many lengths; and one that is longer than a block of keys, whose query heads are split over the threads. */
export function attentionTests(dtype: FloatDType): TestCase[] {
  const attend = (name: string, lengths: readonly number[], tested: TestedAttention, scale?: number) =>
    testCase(`attention ${dtype}, ${name}`, FUSED_AND_PLAIN[dtype], (kernels) => {
      const settings = settingsOf(tested, scale);
      const { heads, keyValueHeads, headDim, window } = settings;
      const tokens = lengths.reduce((sum, length) => sum + length, 0);
      const angles = anglesAt([...Array(Math.max(...lengths)).keys()], headDim);
      const attention = kernels.of(dtype).batchAttention({ lengths, heads, angles, windows: [window] });
      const qkv = spreadTensor([tokens, (heads + 2 * keyValueHeads) * headDim], 13, 2, dtype);
      const { output, saved } = attention.forward(qkv, settings, true);
      const gradient = spreadTensor([tokens, heads * headDim], 14, 1, dtype);
      return { output, gradient: attention.backward(gradient, saved!, settings) };
    });
  return [
    ...TESTED_ATTENTION.map(({ name, tested }) => attend(name, [70, 70, 41, 17, 1], tested)),
    ...KINDS.map((kind) =>
      attend(`one long row, ${kindName(kind)}`, [613], { heads: 6, keyValueHeads: 2, headDim: 8, ...kind }, 0.4),
    ),
  ];
}

/** The ops of linear attention, in every dtype. */
export function linearAttentionCases(sizes: CaseSizes): NumericCase[] {
  return (['float32', 'bfloat16'] as const).flatMap((dtype) => [
    ...convolutionCases(dtype),
    ...gatedDeltaCases(dtype, sizes),
  ]);
}

/** Rows shorter than the filter, and channels that no vector load divides. */
function convolutionCases(dtype: FloatDType): NumericCase[] {
  const lengths = [1, 9, 3];
  const tokens = 13;
  const channels = 67;
  const x = () => seededTensor([tokens, channels], 50, dtype);
  const weight = () => seededTensor([channels, 4], 51);
  return [
    {
      name: `causalConvolution ${dtype}`,
      subject: kernelSubject('causalConvolution', dtype),
      tolerance: SUM[dtype],
      compute: (kernels) => {
        const { causalConvolution } = kernels.of(dtype);
        const before = seededTensor([lengths.length, 3, channels], 52, dtype);
        return {
          output: causalConvolution(x(), weight(), tokenRows(lengths), null),
          continued: causalConvolution(x(), weight(), tokenRows(lengths), before),
        };
      },
    },
    {
      name: `causalConvolutionGradient ${dtype}`,
      subject: kernelSubject('causalConvolutionGradient', dtype),
      tolerance: SUM[dtype],
      compute: (kernels) => {
        const gradient = seededTensor([tokens, channels], 53, dtype);
        const { causalConvolutionGradient } = kernels.of(dtype);
        return { result: causalConvolutionGradient(gradient, x(), weight(), tokenRows(lengths)) };
      },
    },
  ];
}

interface DeltaShape extends DeltaSettings {
  lengths: readonly number[];
}

/** Two value heads to a key head; sizes that no vector load divides, and those of released models. */
function gatedDeltaCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const small: DeltaShape = { keyHeads: 2, valueHeads: 4, keySize: 12, valueSize: 21, lengths: [65, 1, 3] };
  const large: DeltaShape = { keyHeads: 2, valueHeads: 4, keySize: 128, valueSize: 128, lengths: [130, 64] };
  return (sizes === 'small' ? [small] : [small, large]).map(({ lengths, ...settings }) => {
    const { keyHeads, valueHeads, keySize, valueSize } = settings;
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    return {
      name: `gatedDelta ${dtype}, heads of ${keySize} by ${valueSize}`,
      subject: kernelSubject('gatedDelta', dtype),
      tolerance: ATTENTION[dtype],
      compute: (kernels) => {
        const inputs: DeltaInputs = {
          qkv: seededTensor([tokens, 2 * keyHeads * keySize + valueHeads * valueSize], 54, dtype),
          ba: seededTensor([tokens, 2 * valueHeads], 55, dtype),
          aLog: seededTensor([valueHeads], 56),
          dtBias: seededTensor([valueHeads], 57),
          rows: tokenRows(lengths),
        };
        const { gatedDelta } = kernels.of(dtype);
        const before = seededTensor([lengths.length, valueHeads, keySize, valueSize], 58);
        const continued = gatedDelta.forward(inputs, settings, { before, record: false, keepLast: true });
        const { output, kept } = gatedDelta.forward(inputs, settings, { before: null, record: true, keepLast: false });
        const gradient = seededTensor([tokens, valueHeads * valueSize], 59, dtype);
        const { byQkv, byBa } = gatedDelta.backward(gradient, inputs, kept!, settings);
        const widths = [keyHeads * keySize, keyHeads * keySize, valueHeads * valueSize];
        const [byQuery, byKey, byValue] = split(byQkv, widths, 1);
        const [byB, byA] = split(byBa, [valueHeads, valueHeads], 1);
        const gradients = { byQuery: byQuery!, byKey: byKey!, byValue: byValue!, byB: byB!, byA: byA! };
        return { output, ...gradients, continued: continued.output, last: continued.last! };
      },
    };
  });
}
