import { MAX_SAMPLE_TEXT, type Sample, type SampleSettings } from '@lorasmith/contracts';
import { type ModelText, stopTokenIds } from '@lorasmith/model-folder';
import type { Decoder, ModelAdapter } from '@lorasmith/models';
import { sampleCacheTokens } from '@lorasmith/planning';
import { shownAnswer } from './answer-text.js';
import { generateAnswers } from './generate-answers.js';
import type { PassTurn } from './turn.js';

export interface SamplerOptions {
  base: Decoder;
  adapter: ModelAdapter;
  text: ModelText;
  settings: SampleSettings;
  /** Prompts as tokens. */
  prompts: readonly Int32Array[];
  /** Draws are the same in every round: what differs comes from the training. */
  seed: number;
  turn: PassTurn;
}

/** Has an adapter answer the prompts of a job. */
export class Sampler {
  readonly #options: SamplerOptions;

  constructor(options: SamplerOptions) {
    this.#options = options;
  }

  /** One answer to each prompt, by the adapter as it is. @throws ProductError non_finite_loss; cancelled, with the signal of the turns */
  async answers(): Promise<Sample[]> {
    const { base, adapter, text, settings, prompts, seed, turn } = this.#options;
    const { temperature, top_p: topP, max_tokens: maxNewTokens } = settings;
    const stopIds = stopTokenIds(base.architecture, text.tokenizer);
    const requests = prompts.map((promptIds) => {
      return { promptIds, adapter, maxNewTokens, stopIds, sampling: { temperature, topP, seed } };
    });
    const cacheTokens = sampleCacheTokens({ settings, prompts });
    const answers = await generateAnswers(base, requests, { cacheTokens, maxTexts: prompts.length, turn });
    return answers.map(([answer], prompt) => ({ prompt, ...shownAnswer(answer!, text, MAX_SAMPLE_TEXT) }));
  }
}
