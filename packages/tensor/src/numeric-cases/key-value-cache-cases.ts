import type { AttentionSettings } from '../kernels/attention.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import type { Kernels } from '../kernels/kernels.js';
import { type CachedText, type KeyValueCache, PAGE_TOKENS } from '../kernels/key-value-cache.js';
import { concat, rowsOf } from '../layout.js';
import type { FloatDType, Tensor } from '../tensor.js';
import { cast, tensorOf } from '../transfer.js';
import { anglesAt, byPosition, settingsOf, TESTED_ATTENTION, type TestedAttention } from './attention-cases.js';
import {
  ATTENTION,
  type CaseSizes,
  FUSED_AND_PLAIN,
  kernelSubject,
  type NumericCase,
  SAME_BITS,
  seededTensor,
  spreadTensor,
  type TestCase,
  testCase,
} from './numeric-case.js';

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

export function cacheCases(dtype: FloatDType, headDim: number, sizes: CaseSizes): NumericCase[] {
  return cacheShapes(sizes).map((shape) => ({
    name: `key-value cache ${dtype}, head size ${headDim}, ${shape.name}`,
    subject: kernelSubject('keyValueCache', dtype),
    tolerance: { ...ATTENTION[dtype], rowSize: headDim },
    compute: (kernels) => readByPosition(kernels.of(dtype), shape, dtype, headDim),
  }));
}

/** The output of each step, by position. */
function readByPosition(
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
  const width = (heads + 2 * keyValueHeads) * headDim;
  const read = readInSteps(cache, {
    ...{ steps, settings, layer: 0 },
    // Texts have their pages in turn.
    pagesOf: (text) => Array.from({ length: pagesOfText }, (_, page) => page * texts + text),
    isPrompt: (tokens) => tokens > 1,
    qkvOf: (pieces, index) => seededTensor([positionsOf(pieces).length, width], 20 + index, dtype),
  });
  cache.dispose();
  const outputs = read.map(({ pieces, output }, index) =>
    byPosition(`output of step ${index + 1}`, output, positionsOf(pieces)),
  );
  return Object.assign({}, ...outputs);
}

interface TextTokens extends CachedText {
  text: number;
}

const positionsOf = (pieces: readonly TextTokens[]) =>
  pieces.flatMap(({ cached, tokens }) => Array.from({ length: tokens }, (_, i) => cached + i));

interface Reading {
  /** Tokens of each text in each step. */
  steps: readonly (readonly number[])[];
  settings: AttentionSettings;
  layer: number;
  pagesOf(text: number): readonly number[];
  isPrompt(tokens: number): boolean;
  qkvOf(pieces: readonly TextTokens[], step: number): Tensor;
}

/** The output of each step, and whose tokens it has. */
function readInSteps(
  cache: KeyValueCache,
  { steps, settings, layer, pagesOf, isPrompt, qkvOf }: Reading,
): { pieces: TextTokens[]; output: Tensor }[] {
  const cached = steps[0]!.map(() => 0);
  return steps.map((step, index) => {
    const pieces = step.flatMap((tokens, text) =>
      tokens === 0 ? [] : [{ text, tokens, cached: cached[text]!, isPrompt: isPrompt(tokens), pages: pagesOf(text) }],
    );
    for (const { text, tokens } of pieces) cached[text]! += tokens;
    const angles = anglesAt(positionsOf(pieces), settings.headDim);
    return { pieces, output: cache.step(pieces, angles).attend(qkvOf(pieces, index), layer, settings) };
  });
}

interface TextOptions {
  /** Every text has the same pages. @defaultValue each has its own */
  samePages?: boolean;
  /** True if also a token alone is of a prompt. */
  allPrompt?: boolean;
}

/**
 * Attention of texts that are read in steps.
 * @param texts `[tokens, width]` each
 * @returns of each text `[tokens, heads × headDim]`
 */
function readTexts(
  kernels: KernelSet,
  texts: readonly Tensor[],
  steps: readonly (readonly number[])[],
  settings: AttentionSettings,
  dtype: FloatDType,
  { samePages = false, allPrompt = false }: TextOptions = {},
): Tensor[] {
  const { keyValueHeads, headDim, window } = settings;
  const layers = [0, 1].map(() => ({ keyValueHeads, headDim }));
  const cache = kernels.of(dtype).keyValueCache({ layers, pages: 3 * texts.length, windows: [window], dtype });
  const read = readInSteps(cache, {
    ...{ steps, settings, layer: 1 },
    pagesOf: (text) => [0, 1, 2].map((page) => (samePages ? page : page * texts.length + text)),
    isPrompt: (tokens) => allPrompt || tokens > 1,
    qkvOf: (pieces) =>
      concat(
        pieces.map(({ text, cached, tokens }) => rowsOf(texts[text]!, { first: cached, count: tokens })),
        0,
      ),
  });
  cache.dispose();
  const outputs = texts.map((): Tensor[] => []);
  for (const { pieces, output } of read) {
    let first = 0;
    for (const { text, tokens } of pieces) {
      outputs[text]!.push(rowsOf(output, { first, count: tokens }));
      first += tokens;
    }
  }
  return outputs.map((own) => concat(own, 0));
}

export function cacheTests(dtype: FloatDType): TestCase[] {
  return [...TESTED_ATTENTION.flatMap(({ name, tested }) => stepTests(dtype, name, tested)), otherTextsTest(dtype)];
}

/** Four texts, three of which are read in several steps. */
function stepTests(dtype: FloatDType, name: string, tested: TestedAttention): TestCase[] {
  const lengths = [70, 41, 3, 64];
  const steps = [[20, 0, 2, 1], [33, 40, 1, 63], [17, 1, 0, 0]]; // biome-ignore format: one step after the other
  const width = (tested.heads + 2 * tested.keyValueHeads) * tested.headDim;
  const textOf = (text: number) => spreadTensor([lengths[text]!, width], 15 + text, 2, dtype);
  const texts = () => lengths.map((_, text) => textOf(text));
  const together = (kernels: KernelSet, options?: TextOptions) =>
    readTexts(kernels, texts(), steps, settingsOf(tested), dtype, options);
  const inSteps = (kernels: KernelSet) => ({ output: concat(together(kernels), 0) });
  const inTraining = (kernels: KernelSet) => {
    const settings = settingsOf(tested);
    const { heads, headDim, window } = settings;
    const angles = anglesAt([...Array(Math.max(...lengths)).keys()], headDim);
    const attention = kernels.of(dtype).batchAttention({ lengths, heads, angles, windows: [window] });
    return { output: attention.forward(concat(texts(), 0), settings, false).output };
  };
  const alone = (kernels: KernelSet) =>
    lengths.flatMap((length, text) =>
      readTexts(kernels, [textOf(text)], [[length]], settingsOf(tested), dtype, { allPrompt: true }),
    );
  const named = (outputs: readonly Tensor[]) =>
    Object.fromEntries(outputs.map((output, text) => [`text ${text + 1}`, output]));
  const title = `key-value cache ${dtype}, ${name}`;
  return [
    testCase(title, FUSED_AND_PLAIN[dtype], inSteps),
    testCase(`${title}: as attention of a training`, FUSED_AND_PLAIN[dtype], inSteps, {
      ...{ kernels: 'plain', compute: inTraining },
    }),
    testCase(
      `${title}: each text as alone and at once`,
      SAME_BITS,
      (kernels) => named(together(kernels, { allPrompt: true })),
      {
        ...{ kernels: 'same', compute: (kernels) => named(alone(kernels)) },
      },
    ),
  ];
}

/** A text reads nothing of another: not a NaN of one that is read with it, nor of one that had its pages before it. */
function otherTextsTest(dtype: FloatDType): TestCase {
  const settings: AttentionSettings = {
    ...{ heads: 4, keyValueHeads: 2, headDim: 16, scale: 0.25 },
    ...{ window: null, softcap: null },
  };
  const own = () => spreadTensor([50, 128], 19, 2, dtype);
  const broken = () => cast(tensorOf(new Float32Array(70 * 128).fill(Number.NaN), [70, 128]), dtype);
  const read = (kernels: KernelSet, steps: readonly (readonly number[])[], options?: TextOptions) =>
    readTexts(kernels, [broken(), own()], steps, settings, dtype, options)[1]!;
  const besideNaN = (kernels: KernelSet) => ({
    beside: read(kernels, [[40, 40], [30, 10]]), // biome-ignore format: one step after the other
    after: read(kernels, [[70, 0], [0, 50]], { samePages: true }), // biome-ignore format: one step after the other
  });
  const compute = (kernels: KernelSet) => {
    const alone = readTexts(kernels, [own()], [[50]], settings, dtype)[0]!;
    return { beside: alone, after: alone };
  };
  return testCase(`key-value cache ${dtype}, a text beside NaN and after it`, SAME_BITS, besideNaN, {
    ...{ kernels: 'same', compute },
  });
}
