import { MAX_SAMPLE_TEXT, type SampleRound, type SampleSettings } from '@lorasmith/contracts';
import { answerScores } from '@lorasmith/graders';
import { type ModelText, stopTokenIds } from '@lorasmith/model-folder';
import type { Decoder, ModelAdapter } from '@lorasmith/models';
import { type ScoredRow, sampleCacheTokens } from '@lorasmith/planning';
import { shownAnswer, textOfIds } from './answer-text.js';
import { generateAnswers } from './generate-answers.js';
import type { PassTurn } from './turn.js';

export interface SamplerOptions {
  base: Decoder;
  adapter: ModelAdapter;
  text: ModelText;
  settings: SampleSettings;
  /** Prompts as tokens. */
  prompts: readonly Int32Array[];
  /** Held-out rows whose prompts are answered, too. */
  scored: readonly ScoredRow[];
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

  /**
   * One answer to each prompt, by the adapter as it is, and how answers to held-out rows compare with what these say.
   * @throws ProductError non_finite_loss; cancelled, with the signal of the turns
   */
  async answers(): Promise<Omit<SampleRound, 'step'>> {
    const { base, adapter, text, settings, scored, seed, turn } = this.#options;
    const prompts = [...this.#options.prompts, ...scored.map(({ promptIds }) => promptIds)];
    const { temperature, top_p: topP, max_tokens: maxNewTokens } = settings;
    const stopIds = stopTokenIds(base.architecture, text.tokenizer);
    const requests = prompts.map((promptIds) => {
      return { promptIds, adapter, maxNewTokens, stopIds, sampling: { temperature, topP, seed } };
    });
    const cacheTokens = sampleCacheTokens({ settings, prompts });
    const answers = await generateAnswers(base, requests, { cacheTokens, maxTexts: prompts.length, turn });
    const shown = answers.map(([answer]) => shownAnswer(answer!, text, MAX_SAMPLE_TEXT));
    const ofPrompts = shown.slice(0, prompts.length - scored.length);
    const samples = ofPrompts.map((answer, prompt) => ({ prompt, ...answer }));
    if (scored.length === 0) return { samples };
    const compared = scored.map(({ referenceIds }, index) => ({
      text: shown[ofPrompts.length + index]!.text,
      reference: textOfIds(referenceIds, text).slice(0, MAX_SAMPLE_TEXT),
    }));
    return { samples, scores: answerScores(compared) };
  }
}
