import { engine } from '../binding.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import type { TokenChoice } from '../kernels/sample-tokens.js';
import type { FloatDType, Tensor } from '../tensor.js';
import { cast, tensorOf } from '../transfer.js';
import {
  type CaseSizes,
  EXACT,
  kernelSubject,
  type NumericCase,
  seededNumbers,
  type TestCase,
  testCase,
} from './numeric-case.js';

const PLAIN: TokenChoice = {
  ...{ given: null, temperature: 1, topK: 0, topP: 1, minP: 0, draw: 0.5 },
  ...{ penalties: null, allowed: null, logprobs: null },
};

/** Tokens and log-probabilities are the same bits on every engine, whatever the settings. */
export function sampleTokenCases(dtype: FloatDType, sizes: CaseSizes): (NumericCase | TestCase)[] {
  // One token; fewer and more than a block has threads; and the vocabularies of Llama 3 and Gemma 3.
  const vocabularies = sizes === 'small' ? [1, 77, 2_500] : [1, 77, 2_500, 128_256, 262_208];
  const settings = vocabularies.map(
    (vocab): NumericCase => ({
      name: `sampleTokens ${dtype}, ${vocab} tokens`,
      subject: kernelSubject('sampleTokens', dtype),
      tolerance: EXACT,
      compute: (kernels) => {
        const choices = choicesOf(vocab);
        const numbers = seededNumbers([choices.length, vocab], 30).map((value) => 6 * value);
        // Two rows of equal logits, and one with a number that is none.
        numbers.fill(2, 0, 2 * vocab);
        numbers[3 * vocab - 1] = Number.NaN;
        return tokensOf(kernels, cast(tensorOf(numbers, [choices.length, vocab]), dtype), choices);
      },
    }),
  );
  return [...settings, ...randomTests(dtype)];
}

/** Random rows with random settings. */
function randomTests(dtype: FloatDType): TestCase[] {
  // Threads of the emulated card take long.
  const [batches, rows, vocab] = engine.kind === 'cpu' ? [20, 100, 301] : [2, 25, 301];
  return Array.from({ length: batches }, (_, batch) =>
    testCase(`sampleTokens ${dtype} of random rows with random settings, batch ${batch + 1}`, EXACT, (kernels) => {
      const random = seededNumbers([8 * rows], 300 + batch).map(
        (value) => Math.min((value / Math.sqrt(3) + 1) / 2, 1 - 2 ** -24), // below 1
      );
      const choices = Array.from({ length: rows }, (_, row) =>
        randomChoice(random.subarray(8 * row, 8 * row + 8), vocab),
      );
      // In steps of a quarter, so that many tokens are as probable.
      const spread = batch % 2 === 0 ? 10 : 40;
      const logits = seededNumbers([rows, vocab], 400 + batch).map(
        (value) => Math.round((4 * spread * value) / Math.sqrt(3)) / 4,
      );
      return tokensOf(kernels, cast(tensorOf(logits, [rows, vocab]), dtype), choices);
    }),
  );
}

/** @param random eight numbers in [0, 1) */
function randomChoice(random: Float32Array, vocab: number): TokenChoice {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, draw = 0] = random;
  const pick = <Value>(values: readonly Value[], at: number) => values[Math.floor(at * values.length)]!;
  const ids = Int32Array.from({ length: Math.ceil(40 * g) }, (_, i) => (7 * i) % vocab);
  return {
    given: a < 0.1 ? Math.floor(b * vocab) : null,
    temperature: pick([0, 0.01, 0.4, 1, 1, 1.7, 30], b),
    topK: pick([0, 0, 1, 4, 50, vocab - 1, 5_000], c),
    topP: pick([1, 1, 0.95, 0.5, 0.01, 0], d),
    minP: pick([0, 0, 0.02, 0.5, 1], e),
    draw,
    penalties: f < 0.3 ? { repetition: 1 + g, ids, subtracted: Float32Array.from(ids, (id) => id / 9 - g) } : null,
    allowed: f > 0.7 ? new Uint32Array(9).map((_, word) => (g * (word + 1) * 2 ** 32) >>> 0) : null,
    logprobs: pick([null, null, 0, 3], a),
  };
}

function tokensOf(kernels: KernelSet, logits: Tensor, choices: readonly TokenChoice[]): Record<string, Tensor> {
  const chosen = kernels.of(logits.dtype).sampleTokens(logits, choices);
  const [ids, logprobs] = [chosen.map((one) => one?.id ?? -1), chosen.map((one) => one?.logprob ?? 1)];
  const top = chosen.flatMap((one) => one?.top ?? []);
  const tensor = (numbers: number[]) => tensorOf(Float32Array.from(numbers), [numbers.length]);
  return {
    ids: tensor(ids),
    logprobs: tensor(logprobs),
    'most probable': tensor(top.map(({ id }) => id)),
    'their logprobs': tensor(top.map(({ logprob }) => logprob)),
  };
}

/** Each setting alone, then all of them. */
function choicesOf(vocab: number): TokenChoice[] {
  const everyThird = new Uint32Array(Math.ceil(vocab / 32)).map((_, word) => 0x49249249 >>> (word % 3));
  const changed = Int32Array.from({ length: Math.min(vocab, 40) }, (_, i) =>
    Math.floor((i * vocab) / Math.min(vocab, 40)),
  );
  const penalties = {
    repetition: 1.3,
    ids: changed,
    subtracted: Float32Array.from(changed, (_, i) => (i % 4) / 3),
  };
  const all = { topK: 30, topP: 0.8, minP: 0.01, penalties, allowed: everyThird, logprobs: 3 };
  const settings: Partial<TokenChoice>[] = [
    ...[{ topP: 0.5 }, { logprobs: 2 }, {}],
    ...[{ temperature: 0 }, { temperature: 0, logprobs: 5 }, { given: vocab - 1, logprobs: 1 }],
    ...[{ draw: 0 }, { draw: 1 - 2 ** -32 }, { temperature: 1e-6 }, { temperature: 40, draw: 0.9 }],
    ...[{ topK: 1 }, { topK: 7, draw: 0.9 }, { topK: vocab, draw: 0.8 }],
    ...[{ topP: 0 }, { topP: 0.3 }, { topP: 0.9, draw: 0.999 }, { minP: 0.05, draw: 0.99 }, { minP: 1 }],
    ...[
      { penalties, draw: 0.3 },
      { penalties, temperature: 0 },
      { allowed: everyThird, temperature: 0 },
    ],
    ...[
      { allowed: everyThird, draw: 0.7 },
      { ...all, draw: 0.2 },
      { ...all, draw: 0.95, temperature: 2 },
    ],
  ];
  return settings.map((own) => ({ ...PLAIN, ...own }));
}
