import type { FloatDType } from '../dtype.js';
import type { Activation } from '../kernels/activation.js';
import type { AttentionSettings } from '../kernels/attention.js';
import { HEAD_SIZES, type Kernels, kernelsFor } from '../kernels/kernel-table.js';
import { PAGE_TOKENS } from '../kernels/key-value-cache.js';
import type { RotaryAngles } from '../kernels/rotary.js';
import type { Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import type { CaseSizes, CaseSubject, NumericCase } from './numeric-case.js';
import { seededIndices, seededTensor } from './seeded-inputs.js';
import { ATTENTION, SINGLE_OP, SUM } from './tolerances.js';

const DTYPES: readonly FloatDType[] = ['float32', 'bfloat16'];
const ACTIVATIONS: readonly Activation[] = [
  ...(['silu', 'gelu', 'gelu_tanh', 'quick_gelu', 'relu', 'relu2', 'sigmoid', 'tanh'] as const),
];
const EPSILON = 1e-5;
const THETA = 10_000;

/** Every fused kernel in every dtype that it has, attention at every head size. */
export function kernelCases(sizes: CaseSizes): NumericCase[] {
  return DTYPES.flatMap((dtype) => [
    ...normCases(dtype, sizes),
    ...activationCases(dtype, sizes),
    ...gatedUnitCases(dtype, sizes),
    ...crossEntropyCases(dtype, sizes),
    ...HEAD_SIZES.flatMap((headDim) => attentionCases(dtype, headDim, sizes)),
    ...HEAD_SIZES.flatMap((headDim) => cacheCases(dtype, headDim, sizes)),
  ]);
}

/** @returns the subject of a kernel of the table, named as `configureKernels` avoids it */
export function kernelSubject(kernel: keyof Kernels, dtype: FloatDType, headDim?: number): CaseSubject {
  return { kind: 'kernel', name: [kernel, dtype, ...(headDim === undefined ? [] : [headDim])].join(':') };
}

/** `[tokens, hidden]`: an odd width that no vector load divides, one of a small model, one of a large model. */
function normShapes(sizes: CaseSizes): [number, number][] {
  return sizes === 'small' ? [[3, 37], [5, 576]] : [[3, 37], [5, 576], [511, 4096]]; // biome-ignore format: a list
}

function normCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const kernels = () => kernelsFor(dtype);
  return normShapes(sizes).flatMap(([tokens, hidden]) => {
    const x = () => seededTensor([tokens, hidden], 1);
    const weight = () => seededTensor([hidden], 2);
    const branch = (seed = 3) => seededTensor([tokens, hidden], seed, dtype);
    const name = `${dtype} [${tokens}, ${hidden}]`;
    const tolerance = SINGLE_OP[dtype];
    return [
      {
        name: `rmsNorm ${name}`,
        subject: kernelSubject('rmsNorm', dtype),
        tolerance,
        compute: () => ({ ...kernels().rmsNorm(x(), weight(), EPSILON, dtype) }),
      },
      {
        name: `addRmsNorm ${name}`,
        subject: kernelSubject('addRmsNorm', dtype),
        tolerance,
        compute: () => ({ ...kernels().addRmsNorm(x(), branch(), weight(), EPSILON) }),
      },
      ...(dtype === 'float32' ? [centredCase(x, name)] : []),
      ...[true, false].map((hasResidual) => ({
        name: `rmsNormGradient ${name}${hasResidual ? '' : ', no residual'}`,
        subject: kernelSubject('rmsNormGradient', dtype),
        // Its sum over the row cancels most of a number that is a multiple of the norm's output.
        tolerance: SUM[dtype],
        compute: () => {
          const inverseRms = seededTensor([tokens, 1], 4);
          const residual = hasResidual ? seededTensor([tokens, hidden], 5) : null;
          return { ...kernels().rmsNormGradient(branch(), x(), weight(), inverseRms, residual) };
        },
      })),
    ];
  });
}

/** A mean is a sum, which the two sides take in another order; what is left of a number is as large as it. */
function centredCase(x: () => Tensor, name: string): NumericCase {
  return {
    name: `centred ${name}`,
    subject: kernelSubject('centred', 'float32'),
    tolerance: SUM.float32,
    compute: () => ({ output: kernelsFor('float32').centred(x()) }),
  };
}

/** `[tokens, width]`: numbers that no vector has, whole vectors, and more than all threads take at once. */
function activationCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const shapes = sizes === 'small' ? [[3, 37], [7, 96]] : [[3, 37], [7, 96], [511, 11_008]]; // biome-ignore format: a list
  return shapes.flatMap(([tokens = 0, width = 0]) => {
    const x = () => seededTensor([tokens, width], 12, dtype);
    // The large shape is about the kernel's blocks, for which one activation is enough.
    return (tokens * width > 1_000_000 ? ACTIVATIONS.slice(0, 1) : ACTIVATIONS).flatMap((activation) => {
      const name = `${activation} ${dtype} [${tokens}, ${width}]`;
      return [
        {
          name: `activation ${name}`,
          subject: kernelSubject('activation', dtype),
          tolerance: SINGLE_OP[dtype],
          compute: () => ({ output: kernelsFor(dtype).activation(x(), activation) }),
        },
        {
          name: `activationGradient ${name}`,
          subject: kernelSubject('activationGradient', dtype),
          tolerance: SUM[dtype],
          compute: () => {
            const gradient = seededTensor([tokens, width], 13, dtype);
            return { gradient: kernelsFor(dtype).activationGradient(gradient, x(), activation) };
          },
        },
      ];
    });
  });
}

function gatedUnitCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const shapes = sizes === 'small' ? [[3, 37], [7, 96]] : [[3, 37], [7, 96], [257, 11_008]]; // biome-ignore format: a list
  return shapes.flatMap(([tokens = 0, intermediate = 0]) => {
    const gateUp = () => seededTensor([tokens, 2 * intermediate], 6, dtype);
    // The large shape is about the kernel's blocks, for which one activation is enough.
    return (tokens * intermediate > 1_000_000 ? ACTIVATIONS.slice(0, 1) : ACTIVATIONS).flatMap((activation) => {
      const name = `${activation} ${dtype} [${tokens}, ${intermediate}]`;
      return [
        {
          name: `gatedUnit ${name}`,
          subject: kernelSubject('gatedUnit', dtype),
          tolerance: SINGLE_OP[dtype],
          compute: () => ({ output: kernelsFor(dtype).gatedUnit(gateUp(), activation) }),
        },
        {
          name: `gatedUnitGradient ${name}`,
          subject: kernelSubject('gatedUnitGradient', dtype),
          tolerance: SUM[dtype],
          compute: () => {
            const gradient = seededTensor([tokens, intermediate], 7, dtype);
            return { gradient: kernelsFor(dtype).gatedUnitGradient(gradient, gateUp(), activation) };
          },
        },
      ];
    });
  });
}

/** `[rows, classes]`: fewer classes than a block has threads, and the vocabularies of GPT-2 and Llama 3. */
function crossEntropyCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const shapes = sizes === 'small' ? [[3, 7], [5, 1_031]] : [[3, 7], [5, 1_031], [31, 50_257], [8, 128_256]]; // biome-ignore format: a list
  return shapes.map(([rows = 0, classes = 0]) => ({
    name: `crossEntropy ${dtype} [${rows}, ${classes}]`,
    subject: kernelSubject('crossEntropy', dtype),
    tolerance: SUM[dtype],
    compute: () => {
      const logits = seededTensor([rows, classes], 8, dtype);
      return { ...kernelsFor(dtype).crossEntropy(logits, seededIndices(rows, classes, 9)) };
    },
  }));
}

interface AttentionShape {
  name: string;
  heads: number;
  keyValueHeads: number;
  lengths: number[];
  window?: number;
  softcap?: number;
  /** Whether each head has a sink. */
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

function attentionCases(dtype: FloatDType, headDim: number, sizes: CaseSizes): NumericCase[] {
  return attentionShapes(headDim, sizes).map((shape) => {
    const { heads, keyValueHeads, lengths, window = null, softcap = null, hasSinks = false } = shape;
    const settings: AttentionSettings = {
      ...{ heads, keyValueHeads, headDim, window, softcap },
      scale: 1 / Math.sqrt(headDim),
    };
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    return {
      name: `attention ${dtype}, head size ${headDim}, ${shape.name}`,
      subject: kernelSubject('batchAttention', dtype, headDim),
      tolerance: ATTENTION[dtype],
      compute: () => {
        const angles = anglesOf(Math.max(...lengths), headDim);
        const attention = kernelsFor(dtype).batchAttention({ lengths, heads, angles, windows: [window] });
        const qkv = seededTensor([tokens, (heads + 2 * keyValueHeads) * headDim], 10, dtype);
        const own = hasSinks ? { ...settings, sinks: seededTensor([heads], 12) } : settings;
        const { output, saved } = attention.forward(qkv, own, true);
        const byOutput = seededTensor([tokens, heads * headDim], 11, dtype);
        return { output, gradient: attention.backward(byOutput, saved!, own) };
      },
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
    tolerance: ATTENTION[dtype],
    compute: () => attendInSteps(shape, dtype, headDim),
  }));
}

/** The output of each step. */
function attendInSteps(shape: CacheCaseShape, dtype: FloatDType, headDim: number): Record<string, Tensor> {
  const { heads, keyValueHeads, window = null, softcap = null, hasSinks = false, steps } = shape;
  const texts = steps[0]!.length;
  const most = Math.max(...steps[0]!.map((_, text) => steps.reduce((sum, step) => sum + step[text]!, 0)));
  const pagesOfText = Math.ceil(most / PAGE_TOKENS);
  const layers = [{ keyValueHeads, headDim }];
  const cache = kernelsFor(dtype).keyValueCache({ layers, pages: texts * pagesOfText, windows: [window], dtype });
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
    return cache.step(pieces, anglesAt(positions, headDim)).attend(qkv, 0, settings);
  });
  cache.dispose();
  return Object.fromEntries(outputs.map((output, index) => [`output of step ${index + 1}`, output]));
}

const anglesOf = (positions: number, headDim: number) => anglesAt([...Array(positions).keys()], headDim);

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
