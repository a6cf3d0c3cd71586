import type { FloatDType } from '../dtype.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import type { TokenChoice } from '../kernels/token-choice.js';
import type { Tensor } from '../tensor.js';
import { cast, tensorOf } from '../transfer.js';
import { type CaseSizes, kernelSubject, type NumericCase } from './numeric-case.js';
import { seededNumbers } from './seeded-inputs.js';
import { EXACT } from './tolerances.js';

const PLAIN: TokenChoice = {
  ...{ given: null, temperature: 1, topK: 0, topP: 1, minP: 0, draw: 0.5 },
  ...{ penalties: null, allowed: null, logprobs: null },
};

/** Tokens and log-probabilities are the same bits on every engine, whatever the settings. */
export function sampleTokenCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  // One token; fewer and more than a block has threads; and the vocabularies of Llama 3 and Gemma 3.
  const vocabularies = sizes === 'small' ? [1, 77, 2_500] : [1, 77, 2_500, 128_256, 262_208];
  return vocabularies.map((vocab) => ({
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
  }));
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
