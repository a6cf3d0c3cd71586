import { type GenerationChunk, ProductError, type ScoredTokens } from '@lorasmith/contracts';
import type { GenerationClient } from '@lorasmith/queue';
import { encodeSampleResponse, type TopToken } from '@lorasmith/tinker-wire';
import type { SamplingCall } from './sampling-request.js';

interface Sequence {
  tokens: number[];
  logProbabilities: number[];
  top: TopToken[][];
  stopReason: 'stop' | 'length';
}

/** An answer that is being put together. */
class Collected {
  readonly sequences: Sequence[];
  readonly promptLogProbabilities: (number | null)[] = [];
  readonly promptTop: TopToken[][] = [];

  constructor(choices: number) {
    this.sequences = Array.from({ length: choices }, () => ({
      tokens: [],
      logProbabilities: [],
      top: [],
      stopReason: 'length',
    }));
  }

  add(chunk: GenerationChunk): void {
    if (chunk.type === 'tokens') {
      const sequence = this.sequences[chunk.choice]!;
      sequence.tokens.push(...chunk.tokens.ids);
      sequence.logProbabilities.push(...chunk.tokens.logprobs.map((value) => value ?? 0));
      sequence.top.push(...topOf(chunk.tokens));
    } else if (chunk.type === 'prompt-scored') {
      this.promptLogProbabilities.push(...chunk.tokens.logprobs);
      this.promptTop.push(...topOf(chunk.tokens));
    } else if (chunk.type === 'finish') {
      this.sequences[chunk.choice]!.stopReason = chunk.reason;
    }
  }
}

const topOf = ({ top }: ScoredTokens): TopToken[][] =>
  top.map((tokens) => tokens.map(([id, logprob]) => ({ id, logprob })));

/**
 * Samples as a call wants.
 * @returns the body of its result
 * @throws ProductError with the code of a worker's failure
 */
export async function sample(
  generation: Pick<GenerationClient, 'ask'>,
  { requests, promptLength, promptTop, sampleTop, scoresPrompt }: SamplingCall,
  options: { waitMs: number; signal: AbortSignal },
): Promise<Buffer> {
  const answers = await Promise.all(
    requests.map(async (request) => {
      const collected = new Collected(request.n);
      for await (const chunk of generation.ask(request, options)) {
        if (chunk.type === 'failed') {
          const { code, message, param, retry_after_seconds: retryAfterSeconds } = chunk.failure;
          throw new ProductError(code, message, { param, retryAfterSeconds });
        }
        collected.add(chunk);
      }
      return collected;
    }),
  );
  const [first] = answers;
  const sequences = answers.flatMap((answer) => answer.sequences);
  const whole = <Value>(values: readonly Value[]): (Value | null)[] => [
    ...Array.from({ length: promptLength - values.length }, () => null),
    ...values,
  ];
  return Buffer.from(
    encodeSampleResponse({
      sequences: sequences.map(({ top, ...sequence }) => ({ ...sequence, top: sampleTop > 0 ? top : null })),
      promptLogProbabilities: scoresPrompt ? whole(first!.promptLogProbabilities) : null,
      promptTop: promptTop > 0 ? whole(first!.promptTop) : null,
    }),
  );
}
