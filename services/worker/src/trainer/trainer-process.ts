import { type ChildExit, type ChildProgram, startChild } from '@lorasmith/child-processes';
import type {
  GenerationFailure,
  GenerationPiece,
  GradingBatch,
  GradingOutcome,
  JobId,
  NewJobEvent,
} from '@lorasmith/contracts';
import type { GradeByWebhook, StopReason } from '@lorasmith/training';
import type { GenerationOrder, TokenCounts, TrainerOrder, TrainerReply, TrainerRequest } from './messages.js';
import type { TrainerOutcome } from './run-outcome.js';
import { exitFailure } from './trainer-failure.js';

export interface TrainerLimits {
  /**
   * A trainer with a run that sends nothing for so long is killed. One call of the engine may block it for a while, so
   * this is far above the time of a micro-batch.
   * @defaultValue 120 000
   */
  silenceMs: number;
  /** How long a run may take to stop. A shutdown must end before the supervisor kills the worker. */
  stopMs: Record<StopReason, number>;
  /** How long an idle trainer may take to end. */
  endMs: number;
}

export const DEFAULT_TRAINER_LIMITS: TrainerLimits = {
  silenceMs: 120_000,
  stopMs: { cancel: 30_000, shutdown: 20_000, 'time-limit': 60_000, 'lost-lock': 10_000 },
  endMs: 5_000,
};

export interface TrainerProcessOptions {
  program: ChildProgram;
  limits: TrainerLimits;
  /** Called for each line that the trainer writes to its standard output or error, with the jobs it has then. */
  onLine: (line: string, jobs: JobId[]) => void;
}

export interface RunOptions {
  /** Aborted with a {@link StopReason} to stop the run. */
  signal: AbortSignal;
  onEvent: (event: NewJobEvent) => void;
  /** Has the webhook of the job's grader give rewards. Never rejects. @defaultValue a job with one fails */
  grade?: GradeByWebhook | undefined;
}

export interface TrainerRunOptions extends RunOptions {
  /** Aborted, the run stops after a step, however long that takes, with the outcome `recycled`. */
  recycle: AbortSignal;
}

/** A run that has ended in one trainer. */
export interface EndedRun {
  outcome: TrainerOutcome;
  /** How many other runs the trainer had then. */
  beside: number;
}

export interface AnswerCallbacks {
  /** Aborted when nobody wants the answer any more. */
  signal: AbortSignal;
  /** Gets the pieces of the choices. */
  onPiece: (piece: GenerationPiece) => void;
}

/** How an answer ended in a trainer. `cancelled`: it was not wanted any more. */
export type GenerationResult =
  | { type: 'answered'; tokens: TokenCounts }
  | { type: 'cancelled' }
  | { type: 'failed'; failure: GenerationFailure };

/** A process that does runs, several at a time if asked to, and is watched while it has any. */
export interface TrainerProcess {
  readonly pid: number | undefined;
  /** False once it has ended or is about to. */
  readonly usable: boolean;
  /** How long it has had a run so far. */
  readonly trainedMs: number;
  /**
   * Does one run. Never rejects for what the trainer does: a crash, silence and a stop are outcomes. A crash is the
   * outcome of every run that the trainer has.
   */
  run(order: TrainerOrder, options: TrainerRunOptions): Promise<EndedRun>;
  /** Answers a request for text, beside the runs. Never rejects, as {@link run}. */
  generate(order: GenerationOrder, options: AnswerCallbacks): Promise<GenerationResult>;
  /** Lets it end, then kills it; resolves when it has ended. */
  end(): Promise<void>;
}

/** A run, or an answer to a request for text, that is under way in the trainer. */
interface Run {
  /** null: an answer. */
  job: JobId | null;
  onReply: (reply: TrainerReply) => void;
  /** The trainer has ended, with so many other runs. */
  onEnd: (exit: ChildExit, beside: number) => void;
}

export function startTrainer({ program, limits, onLine }: TrainerProcessOptions): TrainerProcess {
  const runs = new Map<number, Run>();
  let lastRun = 0;
  let trainedMs = 0;
  let busySince = 0;

  const child = startChild<TrainerRequest, TrainerReply>({
    program,
    onLine: (line) =>
      onLine(
        line,
        [...runs.values()].flatMap(({ job }) => job ?? []),
      ),
    onMessage: (reply) => runs.get(reply.run)?.onReply(reply),
  });
  // One handler for all runs: those of each would be kept, with its order, until the trainer ends.
  let exit: ChildExit | null = null;
  void child.ended.then((ended) => {
    exit = ended;
    const atEnd = [...runs.values()];
    for (const { onEnd } of atEnd) onEnd(ended, atEnd.length - 1);
  });

  const add = (number: number, run: Run) => {
    if (runs.size === 0) {
      busySince = performance.now();
      child.watchSilence(limits.silenceMs);
    }
    runs.set(number, run);
    const ended = exit;
    if (ended !== null) queueMicrotask(() => run.onEnd(ended, 0));
  };
  const remove = (number: number) => {
    runs.delete(number);
    if (runs.size > 0) return;
    trainedMs += performance.now() - busySince;
    child.watchSilence(null);
  };

  return {
    pid: child.pid,
    get usable() {
      return child.usable;
    },
    get trainedMs() {
      return trainedMs + (runs.size > 0 ? performance.now() - busySince : 0);
    },
    run(order, { signal, recycle, onEvent, grade }) {
      const number = ++lastRun;
      return new Promise((resolve) => {
        let stopReason: StopReason | null = null;
        let stopTimer: NodeJS.Timeout | undefined;
        const stop = () => {
          stopReason = signal.reason as StopReason;
          // A trainer that still loads cannot react. Where it is to do nothing else, there is nothing to wait for.
          if (!child.hasSentMessage && runs.size === 1) return child.kill('stop');
          child.send({ type: 'stop', run: number, reason: stopReason });
          stopTimer = setTimeout(() => child.kill('stop'), limits.stopMs[stopReason]);
        };
        const endAfterStep = () => child.send({ type: 'recycle', run: number });
        const settle = (outcome: TrainerOutcome, beside = runs.size - 1) => {
          if (!runs.has(number)) return;
          remove(number);
          clearTimeout(stopTimer);
          signal.removeEventListener('abort', stop);
          recycle.removeEventListener('abort', endAfterStep);
          resolve({ outcome, beside });
        };
        const answerGrading = async (grading: number, batch: GradingBatch) => {
          const outcome = (await grade?.(batch)) ?? NO_GRADING;
          if (runs.has(number)) child.send({ type: 'graded', run: number, grading, outcome });
        };
        const onReply = (reply: TrainerReply) => {
          if (reply.type === 'event') onEvent(reply.event);
          else if (reply.type === 'grade') void answerGrading(reply.grading, reply.batch);
          else if (reply.type === 'ended') settle(reply.outcome);
        };
        const onEnd: Run['onEnd'] = (exit, beside) => {
          // A run that did not stop in time has been stopped all the same.
          if (stopReason !== null) settle({ kind: 'stopped', reason: stopReason });
          else if (exit.killedFor === 'stop') settle({ kind: 'displaced' });
          else settle({ kind: 'failed', failure: exitFailure(exit, limits.silenceMs) }, beside);
        };
        add(number, { job: order.job, onReply, onEnd });
        child.send({ type: 'start', run: number, order });
        if (recycle.aborted) endAfterStep();
        else recycle.addEventListener('abort', endAfterStep, { once: true });
        if (signal.aborted) stop();
        else signal.addEventListener('abort', stop, { once: true });
      });
    },
    generate(order, { signal, onPiece }) {
      const number = ++lastRun;
      return new Promise((resolve) => {
        const cancel = () => child.send({ type: 'cancel', run: number });
        const settle = (result: GenerationResult) => {
          if (!runs.has(number)) return;
          remove(number);
          signal.removeEventListener('abort', cancel);
          resolve(result);
        };
        const onReply = (reply: TrainerReply) => {
          if (reply.type === 'piece') onPiece(reply.piece);
          else if (reply.type === 'answered') settle({ type: 'answered', tokens: reply.tokens });
          else if (reply.type === 'cancelled') settle({ type: 'cancelled' });
          else if (reply.type === 'answer-failed') settle({ type: 'failed', failure: reply.failure });
        };
        const onEnd = () => settle({ type: 'failed', failure: TRAINER_ENDED });
        add(number, { job: null, onReply, onEnd });
        child.send({ type: 'generate', run: number, order });
        if (signal.aborted) cancel();
        else signal.addEventListener('abort', cancel, { once: true });
      });
    },
    async end() {
      // It has nothing to finish, and would first load the engine if it is still at that.
      if (lastRun === 0) child.kill('stop');
      await child.end(limits.endMs);
    },
  };
}

const NO_GRADING: GradingOutcome = { kind: 'failed', message: 'Nothing asks the webhook of the grader.' };

const TRAINER_ENDED: GenerationFailure = {
  code: 'service_unavailable',
  message: 'The trainer that was answering has ended. Send the request again.',
  retry_after_seconds: 2,
};
