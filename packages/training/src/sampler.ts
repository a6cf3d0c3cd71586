import { MAX_SAMPLE_TEXT, ProductError, type SampleRound, type SampleSettings } from '@lorasmith/contracts';
import { answerScores } from '@lorasmith/graders';
import { type ModelText, stopTokenIds } from '@lorasmith/model-folder';
import { type Decoder, Generation, type ModelAdapter, NotFiniteError, type PromptRequest } from '@lorasmith/models';
import { type ScoredRow, sampleCacheTokens } from '@lorasmith/planning';
import { FORWARD_SHARE, type InTimeSlice } from './shared-pass/engine-time.js';

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
  inEngineCall: InTimeSlice;
}

/** Has an adapter answer the prompts of a job. */
export class Sampler {
  readonly #options: SamplerOptions;

  constructor(options: SamplerOptions) {
    this.#options = options;
  }

  /**
   * One answer to each prompt, by the adapter as it is, and how answers to held-out rows compare with what these say.
   * @throws ProductError non_finite_loss; cancelled, with the signal of the engine calls
   */
  async answers(): Promise<Omit<SampleRound, 'step'>> {
    const { base, adapter, text, settings, scored, seed, inEngineCall } = this.#options;
    const prompts = [...this.#options.prompts, ...scored.map(({ promptIds }) => promptIds)];
    const { temperature, top_p: topP, max_tokens: maxNewTokens } = settings;
    const stopIds = stopTokenIds(base.architecture, text.tokenizer);
    const requests = prompts.map((promptIds) => {
      return { promptIds, adapter, maxNewTokens, stopIds, sampling: { temperature, topP, seed } };
    });
    const cacheTokens = sampleCacheTokens({ settings, prompts });
    const answers = await generateAnswers(base, requests, { cacheTokens, maxTexts: prompts.length, inEngineCall });
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

/** The tokens of a generating pass. A pass of fewer takes about as long, because it reads all weights. */
const LEAST_TOKENS_OF_A_SLICE = 32;

/** The most time of a step while prompts are read. No client waits for a token, and passes of other jobs take as long. */
const STEP_MS = 1_000;

/** A generated answer. */
interface GeneratedAnswer {
  /** New tokens; with log-probabilities, the one that ends the answer is the last. */
  ids: number[];
  /** The log-probability of each of them; empty where the request wants none. */
  logProbabilities: number[];
  /** False: it was cut at its greatest length. */
  hasEnded: boolean;
}

/**
 * Has a decoder answer prompts, all at once as far as the cache has memory. The cache is in memory only meanwhile, and other jobs
 * continue between tokens.
 * @returns the choices of each request
 * @throws ProductError `non_finite_loss`; `cancelled`, with the signal of the engine calls
 */
export async function generateAnswers(
  base: Decoder,
  requests: readonly PromptRequest[],
  { cacheTokens, maxTexts, inEngineCall }: { cacheTokens: number; maxTexts: number; inEngineCall: InTimeSlice },
): Promise<GeneratedAnswer[][]> {
  const generation = await inEngineCall(0, () => new Generation(base, { cacheTokens, maxTexts, stepMs: STEP_MS }));
  let failure: Error | null = null;
  try {
    const answers = requests.map((request) => {
      const choices = Array.from(
        { length: request.choices ?? 1 },
        (): GeneratedAnswer => ({ ids: [], logProbabilities: [], hasEnded: false }),
      );
      generation.add(request, (event) => {
        if (event.kind === 'failed') failure = event.error;
        if (event.kind !== 'token' && event.kind !== 'ended') return;
        const choice = choices[event.choice]!;
        if (event.kind === 'token') choice.ids.push(event.id);
        else choice.hasEnded = event.reason === 'stop';
        const scored = event.kind === 'token' ? event.scored : (event.stop ?? null);
        if (event.kind === 'ended' && scored !== null) choice.ids.push(scored.id);
        if (scored !== null) choice.logProbabilities.push(scored.logprob);
      });
      return choices;
    });
    while (generation.hasWork && failure === null) {
      const tokens = Math.max(LEAST_TOKENS_OF_A_SLICE, FORWARD_SHARE * generation.stepTokens);
      await inEngineCall(tokens, () => generation.step());
    }
    if (failure !== null) throw explained(failure);
    return answers;
  } finally {
    generation.dispose();
  }
}

function explained(error: Error): Error {
  if (!(error instanceof NotFiniteError)) return error;
  const message = `${error.message} Lower learning_rate, or check the rows. Nothing was published.`;
  return new ProductError('non_finite_loss', message, { cause: error });
}

/** The text of tokens, without the special ones. */
export function textOfIds(ids: Iterable<number>, { tokenizer }: ModelText): string {
  return tokenizer.decode([...ids], { skipSpecialTokens: true });
}

/** An answer as events show it. */
interface ShownAnswer {
  text: string;
  tokens: number;
  /** `length` also where the text is cut. */
  finish_reason: 'stop' | 'length';
}

/** An answer whose text is cut to so many characters, and has no half of one at its end. */
export function shownAnswer(
  { ids, hasEnded }: { ids: ArrayLike<number> & Iterable<number> } & Pick<GeneratedAnswer, 'hasEnded'>,
  model: ModelText,
  maxLength: number,
): ShownAnswer {
  const whole = textOfIds(ids, model);
  const text = whole.slice(0, maxLength).replace(/[\ud800-\udbff]$/, '');
  const isWhole = hasEnded && text.length === whole.length;
  return { text, tokens: ids.length, finish_reason: isWhole ? 'stop' : 'length' };
}
