import { Counter, Gauge, Histogram, type Registry } from '@lorasmith/service-kit';

/** The outcome of a request for text. `left`: its caller did. `given-back`: another worker may answer it. */
export type GenerationOutcome = 'answered' | 'failed' | 'left' | 'given-back';

const OUTCOMES: readonly GenerationOutcome[] = ['answered', 'failed', 'left', 'given-back'];
/** Buckets from a loaded base to one of tens of GB that is loaded first. */
const FIRST_PIECE_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120];

/** Counts and times the requests for text that a worker takes. */
export interface GenerationMetrics {
  started(): void;
  /** The first piece of the answer is there. @param seconds - Since the worker took the request. */
  began(seconds: number): void;
  /** @param tokens - Counts of a complete answer. */
  ended(outcome: GenerationOutcome, tokens?: { prompt: number; completion: number }): void;
}

export function createGenerationMetrics(metrics: Registry): GenerationMetrics {
  const registers = [metrics];
  const open = new Gauge({
    name: 'lorasmith_generation_requests_open',
    help: 'Requests for text that this worker is answering.',
    registers,
  });
  const requests = new Counter({
    name: 'lorasmith_generation_requests_total',
    help: 'Requests for text that a worker took, by outcome.',
    labelNames: ['outcome'],
    registers,
  });
  const tokens = new Counter({
    name: 'lorasmith_generation_tokens_total',
    help: 'Tokens of complete answers: those of the prompts, and those that were generated.',
    labelNames: ['kind'],
    registers,
  });
  const first = new Histogram({
    name: 'lorasmith_generation_first_piece_seconds',
    help: 'Time from taking a request for text to the first piece of its answer, loading included.',
    buckets: FIRST_PIECE_SECONDS,
    registers,
  });
  // Prometheus sees no increase in a series that starts at 1.
  for (const outcome of OUTCOMES) requests.inc({ outcome }, 0);
  for (const kind of ['prompt', 'completion']) tokens.inc({ kind }, 0);

  return {
    started: () => open.inc(),
    began: (seconds) => first.observe(seconds),
    ended(outcome, counts) {
      open.dec();
      requests.inc({ outcome });
      if (counts === undefined) return;
      tokens.inc({ kind: 'prompt' }, counts.prompt);
      tokens.inc({ kind: 'completion' }, counts.completion);
    },
  };
}
