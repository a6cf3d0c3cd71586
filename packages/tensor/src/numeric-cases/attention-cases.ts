import type { FloatDType } from '../dtype.js';
import type { AttentionSettings } from '../kernels/attention.js';
import { HEAD_SIZES } from '../kernels/kernel-table.js';
import type { Kernels } from '../kernels/kernels.js';
import { PAGE_TOKENS } from '../kernels/key-value-cache.js';
import type { RotaryAngles } from '../kernels/rotary.js';
import { split } from '../layout.js';
import type { Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import { byPosition, positionsIn } from './by-position.js';
import { type CaseSizes, kernelSubject, type NumericCase } from './numeric-case.js';
import { seededTensor } from './seeded-inputs.js';
import { ATTENTION } from './tolerances.js';

const THETA = 10_000;

/** Attention, with and without a cache, in every dtype and at every head size that it is compiled for. */
export function allAttentionCases(sizes: CaseSizes): NumericCase[] {
  return (['float32', 'bfloat16'] as const).flatMap((dtype) => [
    ...HEAD_SIZES.flatMap((headDim) => attentionCases(dtype, headDim, sizes)),
    ...HEAD_SIZES.flatMap((headDim) => cacheCases(dtype, headDim, sizes)),
  ]);
}

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

interface CacheCaseShape {
  name: string;
  heads: number;
  keyValueHeads: number;
  window?: number;
  softcap?: number;
  hasSinks?: boolean;
  /** Tokens of each text in each step. One alone follows its prompt. */
  steps: readonly (readonly number[])[];
}

/** A prompt that ends within a page and a tile, texts that join later, and tokens that follow; in full also several pieces of keys. */
function cacheShapes(sizes: CaseSizes): CacheCaseShape[] {
  const steps = [[33, 2, 0], [5, 1, 3], [1, 1, 1]]; // biome-ignore format: a list
  const small: CacheCaseShape[] = [
    { name: 'two heads to a key', heads: 2, keyValueHeads: 1, steps },
    { name: 'window, soft cap and sinks', heads: 2, keyValueHeads: 2, window: 9, softcap: 4, hasSinks: true, steps },
  ];
  if (sizes === 'small') return small;
  const long = [[600, 0, 70], [100, 20, 1], [1, 1, 1]]; // biome-ignore format: a list
  return [
    ...small,
    { name: 'a long text', heads: 12, keyValueHeads: 1, steps: long },
    { name: 'a long text with a window', heads: 4, keyValueHeads: 2, window: 300, steps: long },
  ];
}

function cacheCases(dtype: FloatDType, headDim: number, sizes: CaseSizes): NumericCase[] {
  return cacheShapes(sizes).map((shape) => ({
    name: `key-value cache ${dtype}, head size ${headDim}, ${shape.name}`,
    subject: kernelSubject('keyValueCache', dtype),
    tolerance: { ...ATTENTION[dtype], rowSize: headDim },
    compute: (kernels) => attendInSteps(kernels.of(dtype), shape, dtype, headDim),
  }));
}

/** The output of each step, by position. */
function attendInSteps(
  { keyValueCache }: Kernels,
  shape: CacheCaseShape,
  dtype: FloatDType,
  headDim: number,
): Record<string, Tensor> {
  const { heads, keyValueHeads, window = null, softcap = null, hasSinks = false, steps } = shape;
  const texts = steps[0]!.length;
  const most = Math.max(...steps[0]!.map((_, text) => steps.reduce((sum, step) => sum + step[text]!, 0)));
  const pagesOfText = Math.ceil(most / PAGE_TOKENS);
  const layers = [{ keyValueHeads, headDim }];
  const cache = keyValueCache({ layers, pages: texts * pagesOfText, windows: [window], dtype });
  const settings: AttentionSettings = {
    ...{ heads, keyValueHeads, headDim, window, softcap, scale: 1 / Math.sqrt(headDim) },
    ...(hasSinks && { sinks: seededTensor([heads], 12) }),
  };
  const cached = new Array<number>(texts).fill(0);
  const outputs = steps.map((step, index) => {
    const pieces = step.flatMap((tokens, text) => {
      // Texts have their pages in turn.
      const pages = Array.from({ length: pagesOfText }, (_, page) => page * texts + text);
      return tokens === 0 ? [] : [{ text, tokens, cached: cached[text]!, isPrompt: tokens > 1, pages }];
    });
    const positions = pieces.flatMap((piece) => Array.from({ length: piece.tokens }, (_, i) => piece.cached + i));
    for (const { text, tokens } of pieces) cached[text]! += tokens;
    const qkv = seededTensor([positions.length, (heads + 2 * keyValueHeads) * headDim], 20 + index, dtype);
    const output = cache.step(pieces, anglesAt(positions, headDim)).attend(qkv, 0, settings);
    return byPosition(`output of step ${index + 1}`, output, positions);
  });
  cache.dispose();
  return Object.assign({}, ...outputs);
}

function anglesAt(positions: readonly number[], headDim: number): RotaryAngles {
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
