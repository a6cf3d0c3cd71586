import { MAX_SAMPLE_TEXT, ProductError, type Sample, type SampleSettings } from '@lorasmith/contracts';
import { type ModelText, stopTokenIds } from '@lorasmith/model-folder';
import { type Decoder, Generation, type ModelAdapter, NotFiniteError } from '@lorasmith/models';
import { sampleCacheTokens } from '@lorasmith/planning';
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

/** The tokens of a sampling pass. A pass of fewer takes about as long, because it reads all weights. */
const LEAST_TOKENS_OF_A_TURN = 32;

/** Has an adapter answer the prompts of a job. Its cache is in memory only meanwhile, and other jobs go on between tokens. */
export class Sampler {
  readonly #options: SamplerOptions;

  constructor(options: SamplerOptions) {
    this.#options = options;
  }

  /** One answer to each prompt, by the adapter as it is. @throws ProductError non_finite_loss; cancelled, with the signal of the turns */
  async answers(): Promise<Sample[]> {
    const { base, adapter, text, settings, prompts, seed, turn } = this.#options;
    const cacheTokens = sampleCacheTokens({ settings, prompts });
    const generation = await turn(0, () => new Generation(base, { cacheTokens, maxTexts: prompts.length }));
    try {
      const stopIds = stopTokenIds(base.architecture, text.tokenizer);
      const answers = prompts.map((promptIds) => {
        const answer: Answer = { ids: [], hasEnded: false, error: null };
        const { temperature, top_p: topP, max_tokens: maxNewTokens } = settings;
        const request = { promptIds, adapter, maxNewTokens, stopIds, sampling: { temperature, topP, seed } };
        generation.add(request, (event) => {
          if (event.kind === 'token') answer.ids.push(event.id);
          if (event.kind === 'ended') answer.hasEnded = event.reason === 'stop';
          if (event.kind === 'failed') answer.error = event.error;
        });
        return answer;
      });
      while (generation.hasWork) await turn(LEAST_TOKENS_OF_A_TURN, () => generation.step());
      return answers.map((answer, prompt) => sampleOf(answer, prompt, text));
    } finally {
      generation.dispose();
    }
  }
}

interface Answer {
  ids: number[];
  hasEnded: boolean;
  error: Error | null;
}

function sampleOf({ ids, hasEnded, error }: Answer, prompt: number, { tokenizer }: ModelText): Sample {
  if (error instanceof NotFiniteError) {
    const message = `${error.message} Lower learning_rate, or check the rows. Nothing was published.`;
    throw new ProductError('non_finite_loss', message, { cause: error });
  }
  if (error !== null) throw error;
  const text = tokenizer.decode(ids, { skipSpecialTokens: true });
  const cut = text.slice(0, MAX_SAMPLE_TEXT).replace(/[\ud800-\udbff]$/, '');
  const isWhole = hasEnded && cut.length === text.length;
  return { prompt, text: cut, tokens: ids.length, finish_reason: isWhole ? 'stop' : 'length' };
}
