import { SeededRandom } from '@lorasmith/seeded-random';
import type { TokenPenalties } from '@lorasmith/tensor';
import type { Sampling } from './request.js';

/** The draw for a token of a choice, uniform in [0, 1): a function of the three numbers alone. */
export function drawOf(seed: number, choice: number, token: number): number {
  return new SeededRandom(seed, `choice ${choice} token ${token}`).next();
}

/** How often each token is in a text, for penalties. */
export class TokenCounts {
  readonly #prompt: ReadonlySet<number>;
  readonly #produced = new Map<number, number>();

  constructor(promptIds: Iterable<number>) {
    this.#prompt = new Set(promptIds);
  }

  add(id: number): void {
    this.#produced.set(id, (this.#produced.get(id) ?? 0) + 1);
  }

  /**
   * The effect of penalties on the next token: `repetitionPenalty` to all tokens of the prompt and the new text (Keskar et al. 2019,
   * arXiv:1909.05858, as transformers has it), then `frequencyPenalty` and `presencePenalty` to those of the new text, as the OpenAI API
   * defines them.
   */
  penalties({ repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 }: Sampling): TokenPenalties {
    const ids = [...this.#produced.keys()];
    if (repetitionPenalty !== 1) for (const id of this.#prompt) if (!this.#produced.has(id)) ids.push(id);
    const subtracted = new Float32Array(ids.length);
    let index = 0;
    for (const count of this.#produced.values()) subtracted[index++] = count * frequencyPenalty + presencePenalty;
    return { repetition: repetitionPenalty, ids: Int32Array.from(ids), subtracted };
  }
}

/** True if the penalties change any logit. */
export function hasPenalties({ repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 }: Sampling): boolean {
  return repetitionPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0;
}
