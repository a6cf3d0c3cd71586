import { serveParent } from '@lorasmith/child-processes';
import {
  type GenerationFailure,
  type GradingOutcome,
  JobDeferred,
  ProductError,
  RungReached,
  type TrainingOutcome,
} from '@lorasmith/contracts';
import { asStorageError } from '@lorasmith/storage';
import type { StopReason } from '@lorasmith/training';
import type {
  GenerationOrder,
  ReportedOutcome,
  TokenCounts,
  TrainerOrder,
  TrainerReply,
  TrainerRequest,
} from './messages.js';
import { isAboutSession, type OpenServedSession, ServedSessions } from './serve-sessions.js';
import { loggedFailure } from './trainer-failure.js';
import type { AnswerCallbacks, TrainerRunOptions } from './trainer-process.js';

/** A run that is under way in this process. */
interface Run {
  /** Aborted with a {@link StopReason}. */
  stopping: AbortController;
  recycling: AbortController;
  /** The receivers of the rewards that the run waits for, by the number of the message that asked. */
  gradings: Map<number, (outcome: GradingOutcome) => void>;
}

export interface ServeTrainerOptions {
  /** Says if nothing can be computed in this process any more. It then ends after its run. @defaultValue never */
  isSpent?: () => boolean;
  /** Answers one request for text; null once its signal is aborted. @defaultValue none is answered */
  generate?: (order: GenerationOrder, options: AnswerCallbacks) => Promise<TokenCounts | null>;
  /** Opens a training session. @defaultValue none is opened */
  openSession?: OpenServedSession;
}

/**
 * Turns this process into a trainer, which takes orders from its parent until that ends.
 * @param execute - Does one order. Throws ProductError `cancelled` when it was stopped or recycled, and JobDeferred.
 */
export function serveTrainer(
  execute: (order: TrainerOrder, options: TrainerRunOptions) => Promise<TrainingOutcome>,
  { isSpent = () => false, generate, openSession }: ServeTrainerOptions = {},
): void {
  const runs = new Map<number, Run>();
  /** The answers that are under way. */
  const answers = new Map<number, AbortController>();
  const channel = serveParent<TrainerRequest, TrainerReply>({
    onMessage(request) {
      if (request.type === 'start') return void start(request.run, request.order);
      if (request.type === 'generate') return void startAnswer(request.run, request.order);
      if (request.type === 'cancel') return answers.get(request.run)?.abort();
      if (isAboutSession(request)) return sessions.receive(request);
      const run = runs.get(request.run);
      if (run === undefined) return;
      if (request.type === 'recycle') return run.recycling.abort();
      if (request.type === 'graded') return run.gradings.get(request.grading)?.(request.outcome);
      run.stopping.abort(request.reason);
    },
  });

  const sessions = new ServedSessions({
    open: openSession,
    send: (reply) => channel.send(reply),
    onDone: () => endIfSpent(),
  });

  const start = async (number: number, order: TrainerOrder) => {
    const run: Run = { stopping: new AbortController(), recycling: new AbortController(), gradings: new Map() };
    runs.set(number, run);
    let lastGrading = 0;
    try {
      const outcome = await execute(order, {
        signal: run.stopping.signal,
        recycle: run.recycling.signal,
        onEvent: (event) => channel.send({ type: 'event', run: number, event }),
        grade: (batch) =>
          new Promise((resolve) => {
            const grading = ++lastGrading;
            run.gradings.set(grading, (outcome) => {
              run.gradings.delete(grading);
              resolve(outcome);
            });
            channel.send({ type: 'grade', run: number, grading, batch });
          }),
      });
      channel.send({ type: 'ended', run: number, outcome: { kind: 'finished', outcome } });
    } catch (error) {
      channel.send({ type: 'ended', run: number, outcome: outcomeOf(run, error) });
    } finally {
      runs.delete(number);
      endIfSpent();
    }
  };

  const startAnswer = async (number: number, order: GenerationOrder) => {
    const cancelling = new AbortController();
    answers.set(number, cancelling);
    try {
      const tokens = await generate?.(order, {
        signal: cancelling.signal,
        onChunk: (piece) => channel.send({ type: 'piece', run: number, piece }),
      });
      if (tokens == null) channel.send({ type: 'cancelled', run: number });
      else channel.send({ type: 'answered', run: number, tokens });
    } catch (error) {
      channel.send({ type: 'answer-failed', run: number, failure: generationFailureOf(error) });
    } finally {
      answers.delete(number);
      endIfSpent();
    }
  };

  const endIfSpent = () => {
    // What was sent before arrives before the parent sees that the channel is closed.
    if (isSpent() && process.connected) process.disconnect();
  };
}

/** Logs how far the loading of a base model is, in tenths: a large one takes minutes. */
export function loadingLog(log: (line: string) => void): (progress: { readBytes: number; totalBytes: number }) => void {
  let loggedTenths = 0;
  return ({ readBytes, totalBytes }) => {
    const tenths = Math.floor((10 * readBytes) / totalBytes);
    // Another model starts at 0 again.
    if (tenths < loggedTenths) loggedTenths = 0;
    if (tenths === loggedTenths) return;
    loggedTenths = tenths;
    log(`base model: ${10 * tenths} % of ${(totalBytes / 1e9).toFixed(1)} GB read`);
  };
}

function generationFailureOf(error: unknown): GenerationFailure {
  const known = asStorageError(error);
  if (known instanceof ProductError) {
    const { code, param, retryAfterSeconds } = known;
    return { code, message: known.message, param, retry_after_seconds: retryAfterSeconds };
  }
  console.error(error);
  const said = error instanceof Error ? error.message : String(error);
  return { code: 'internal_error', message: `The answer could not be generated: ${said.slice(0, 500)}` };
}

/** The outcome of a run that ended with this error. */
function outcomeOf({ stopping, recycling }: Run, error: unknown): ReportedOutcome {
  if (error instanceof JobDeferred) return { kind: 'deferred', why: error.message };
  if (error instanceof RungReached) return { kind: 'at-rung', step: error.step, evaluation: error.evaluation };
  const wasAsked = error instanceof ProductError && error.code === 'cancelled';
  if (wasAsked && stopping.signal.aborted) {
    return { kind: 'stopped', reason: stopping.signal.reason as StopReason };
  }
  if (wasAsked && recycling.signal.aborted) return { kind: 'recycled' };
  return { kind: 'failed', failure: loggedFailure(error) };
}
