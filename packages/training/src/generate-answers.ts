import { ProductError } from '@lorasmith/contracts';
import { type Decoder, Generation, NotFiniteError, type PromptRequest } from '@lorasmith/models';
import { FORWARD_SHARE, type PassTurn } from './turn.js';

/** The tokens of a generating pass. A pass of fewer takes about as long, because it reads all weights. */
const LEAST_TOKENS_OF_A_TURN = 32;

/** How long a step may take while prompts are read. Nobody waits for a token, and passes of other jobs take as long. */
const STEP_MS = 1_000;

/** A generated answer. */
export interface GeneratedAnswer {
  /** New tokens; with log-probabilities, the one that ends the answer is the last. */
  ids: number[];
  /** The log-probability of each of them; empty where the request wants none. */
  logProbabilities: number[];
  /** False: it was cut at its greatest length. */
  hasEnded: boolean;
}

/**
 * Has a decoder answer prompts, all at once as far as the cache has memory. The cache is in memory only meanwhile, and other jobs go on
 * between tokens.
 * @returns the choices of each request
 * @throws ProductError `non_finite_loss`; `cancelled`, with the signal of the turns
 */
export async function generateAnswers(
  base: Decoder,
  requests: readonly PromptRequest[],
  { cacheTokens, maxTexts, turn }: { cacheTokens: number; maxTexts: number; turn: PassTurn },
): Promise<GeneratedAnswer[][]> {
  const generation = await turn(0, () => new Generation(base, { cacheTokens, maxTexts, stepMs: STEP_MS }));
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
      const tokens = Math.max(LEAST_TOKENS_OF_A_TURN, FORWARD_SHARE * generation.stepTokens);
      await turn(tokens, () => generation.step());
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
