import { type Child, type ChildExit, type ChildProgram, explainExit, startChild } from '@lorasmith/child-processes';
import type {
  ErrorCode,
  GenerationChunk,
  GenerationFailure,
  GradingBatch,
  GradingOutcome,
  JobId,
  NewJobEvent,
} from '@lorasmith/contracts';
import type { AskGrader, StopReason } from '@lorasmith/training';
import type {
  GenerationOrder,
  SessionOrder,
  TokenCounts,
  TrainerOrder,
  TrainerOutcome,
  TrainerReply,
  TrainerRequest,
} from './messages.js';
import type { CodedFailure } from './trainer-failure.js';
import { type OpenedSession, SessionInTrainer } from './trainer-session.js';

export interface TrainerLimits {
  /**
   * The silence after which a trainer with a run is killed. One call of the engine may block it for a while, so
   * this is far above the time of a micro-batch.
   * @defaultValue 120 000
   */
  silenceMs: number;
  /** The time that a run may take to stop. A shutdown must end before the supervisor kills the worker. */
  stopMs: Record<StopReason, number>;
  /** The time that an idle trainer may take to end. */
  endMs: number;
}

export const DEFAULT_TRAINER_LIMITS: TrainerLimits = {
  silenceMs: 120_000,
  stopMs: { cancel: 30_000, shutdown: 20_000, 'time-limit': 60_000, 'lost-job': 10_000 },
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
  grade?: AskGrader | undefined;
}

export interface TrainerRunOptions extends RunOptions {
  /** Aborted, the run stops after a step, however long that takes, with the outcome `recycled`. */
  recycle: AbortSignal;
}

/** A run that has ended in one trainer. */
export interface EndedRun {
  outcome: TrainerOutcome;
  /** The count of other runs that the trainer had then. */
  concurrent: number;
}

export interface AnswerCallbacks {
  /** Aborted when nobody wants the answer any more. */
  signal: AbortSignal;
  /** Receives the chunks of the choices. */
  onChunk: (piece: GenerationChunk) => void;
}

/** The end of an answer in a trainer. `cancelled`: it was not wanted any more. */
export type GenerationResult =
  | { type: 'answered'; tokens: TokenCounts }
  | { type: 'cancelled' }
  | { type: 'failed'; failure: GenerationFailure };

/** A process that does runs, several at a time if asked to, and is watched while it has any. */
export interface TrainerProcess {
  readonly pid: number | undefined;
  /** False once it has ended or is about to. */
  readonly usable: boolean;
  /** The time that it has had a run so far, in milliseconds. */
  readonly trainedMs: number;
  /**
   * Does one run. Never rejects for what the trainer does: a crash, silence and a stop are outcomes. A crash is the
   * outcome of every run that the trainer has.
   */
  run(order: TrainerOrder, options: TrainerRunOptions): Promise<EndedRun>;
  /** Answers a request for text while the runs continue. Never rejects, as {@link run}. */
  generate(order: GenerationOrder, options: AnswerCallbacks): Promise<GenerationResult>;
  /**
   * Opens a training session while the runs continue. Never rejects, as {@link run}.
   * @param options `signal`: aborted, the session ends as by its `close`
   */
  openSession(order: SessionOrder, options: { signal: AbortSignal }): Promise<OpenedSession>;
  /** Lets it end, then kills it; resolves when it has ended. */
  end(): Promise<void>;
}

/** A run, an answer to a request for text, or a training session that is under way in the trainer. */
interface Run {
  /** null: an answer, or a session. */
  job: JobId | null;
  onReply: (reply: TrainerReply) => void;
  /** The trainer has ended, with this count of other runs. */
  onEnd: (exit: ChildExit, concurrent: number) => void;
}

export function startTrainer(options: TrainerProcessOptions): TrainerProcess {
  return new ChildTrainer(options);
}

/** A trainer that is a child of this process. */
class ChildTrainer implements TrainerProcess {
  readonly #limits: TrainerLimits;
  readonly #child: Child<TrainerRequest>;
  readonly #runs = new Map<number, Run>();
  #exit: ChildExit | null = null;
  #lastRun = 0;
  /** The time with runs before the present ones, in milliseconds. */
  #trainedMs = 0;
  #busySince = 0;

  constructor({ program, limits, onLine }: TrainerProcessOptions) {
    this.#limits = limits;
    this.#child = startChild<TrainerRequest, TrainerReply>({
      program,
      onLine: (line) =>
        onLine(
          line,
          [...this.#runs.values()].flatMap(({ job }) => job ?? []),
        ),
      onMessage: (reply) => this.#runs.get(reply.run)?.onReply(reply),
    });
    // One handler for all runs: those of each would be kept, with its order, until the trainer ends.
    void this.#child.ended.then((exit) => {
      this.#exit = exit;
      const atEnd = [...this.#runs.values()];
      for (const { onEnd } of atEnd) onEnd(exit, atEnd.length - 1);
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get usable(): boolean {
    return this.#child.usable;
  }

  get trainedMs(): number {
    return this.#trainedMs + (this.#runs.size > 0 ? performance.now() - this.#busySince : 0);
  }

  run(order: TrainerOrder, { signal, recycle, onEvent, grade }: TrainerRunOptions): Promise<EndedRun> {
    const child = this.#child;
    const limits = this.#limits;
    const number = ++this.#lastRun;
    return new Promise((resolve) => {
      let stopReason: StopReason | null = null;
      let stopTimer: NodeJS.Timeout | undefined;
      const stop = () => {
        stopReason = signal.reason as StopReason;
        // A trainer that still loads cannot react. Where it is to do nothing else, there is nothing to wait for.
        if (!child.hasSentMessage && this.#runs.size === 1) return child.kill('stop');
        child.send({ type: 'stop', run: number, reason: stopReason });
        stopTimer = setTimeout(() => child.kill('stop'), limits.stopMs[stopReason]);
      };
      const endAfterStep = () => child.send({ type: 'recycle', run: number });
      const settle = (outcome: TrainerOutcome, concurrent = this.#runs.size - 1) => {
        if (!this.#runs.has(number)) return;
        this.#remove(number);
        clearTimeout(stopTimer);
        signal.removeEventListener('abort', stop);
        recycle.removeEventListener('abort', endAfterStep);
        resolve({ outcome, concurrent });
      };
      const answerGrading = async (grading: number, batch: GradingBatch) => {
        const outcome = (await grade?.(batch)) ?? NO_GRADING;
        if (this.#runs.has(number)) child.send({ type: 'graded', run: number, grading, outcome });
      };
      const onReply = (reply: TrainerReply) => {
        if (reply.type === 'event') onEvent(reply.event);
        else if (reply.type === 'grade') void answerGrading(reply.grading, reply.batch);
        else if (reply.type === 'ended') settle(reply.outcome);
      };
      const onEnd: Run['onEnd'] = (exit, concurrent) => {
        // A run that did not stop in time has been stopped all the same.
        if (stopReason !== null) settle({ kind: 'stopped', reason: stopReason });
        else if (exit.killedFor === 'stop') settle({ kind: 'displaced' });
        else settle({ kind: 'failed', failure: exitFailure(exit, limits.silenceMs) }, concurrent);
      };
      this.#add(number, { job: order.job, onReply, onEnd });
      child.send({ type: 'start', run: number, order });
      if (recycle.aborted) endAfterStep();
      else recycle.addEventListener('abort', endAfterStep, { once: true });
      if (signal.aborted) stop();
      else signal.addEventListener('abort', stop, { once: true });
    });
  }

  generate(order: GenerationOrder, { signal, onChunk }: AnswerCallbacks): Promise<GenerationResult> {
    const child = this.#child;
    const number = ++this.#lastRun;
    return new Promise((resolve) => {
      const cancel = () => child.send({ type: 'cancel', run: number });
      const settle = (result: GenerationResult) => {
        if (!this.#runs.has(number)) return;
        this.#remove(number);
        signal.removeEventListener('abort', cancel);
        resolve(result);
      };
      const onReply = (reply: TrainerReply) => {
        if (reply.type === 'piece') onChunk(reply.piece);
        else if (reply.type === 'answered') settle({ type: 'answered', tokens: reply.tokens });
        else if (reply.type === 'cancelled') settle({ type: 'cancelled' });
        else if (reply.type === 'answer-failed') settle({ type: 'failed', failure: reply.failure });
      };
      const onEnd = () => settle({ type: 'failed', failure: TRAINER_ENDED });
      this.#add(number, { job: null, onReply, onEnd });
      child.send({ type: 'generate', run: number, order });
      if (signal.aborted) cancel();
      else signal.addEventListener('abort', cancel, { once: true });
    });
  }

  openSession(order: SessionOrder, { signal }: { signal: AbortSignal }): Promise<OpenedSession> {
    const child = this.#child;
    const number = ++this.#lastRun;
    const session = new SessionInTrainer(number, {
      send: (request) => child.send(request),
      // As of a run that does not stop.
      onHang: () => child.kill('stop'),
      hangMs: this.#limits.stopMs.cancel,
      onEnded: () => {
        signal.removeEventListener('abort', close);
        this.#remove(number);
      },
    });
    const close = () => void session.close();
    const onEnd: Run['onEnd'] = (exit) => session.fail(sessionFailure(exit, this.#limits.silenceMs));
    this.#add(number, { job: null, onReply: (reply) => session.receive(reply), onEnd });
    child.send({ type: 'open-session', run: number, order });
    if (signal.aborted) close();
    else signal.addEventListener('abort', close, { once: true });
    return session.opened;
  }

  async end(): Promise<void> {
    // It has nothing to finish, and would first load the engine if it is still at that.
    if (this.#lastRun === 0) this.#child.kill('stop');
    await this.#child.end(this.#limits.endMs);
  }

  #add(number: number, run: Run): void {
    if (this.#runs.size === 0) {
      this.#busySince = performance.now();
      this.#child.watchSilence(this.#limits.silenceMs);
    }
    this.#runs.set(number, run);
    const exit = this.#exit;
    if (exit !== null) queueMicrotask(() => run.onEnd(exit, 0));
  }

  #remove(number: number): void {
    this.#runs.delete(number);
    if (this.#runs.size > 0) return;
    this.#trainedMs += performance.now() - this.#busySince;
    this.#child.watchSilence(null);
  }
}

const NO_GRADING: GradingOutcome = { kind: 'failed', message: 'Nothing asks the webhook of the grader.' };

const TRAINER_ENDED: GenerationFailure = {
  code: 'service_unavailable',
  message: 'The trainer that was answering has ended. Send the request again.',
  retry_after_seconds: 2,
};

/** The failure of a session whose trainer has ended. */
function sessionFailure(exit: ChildExit, silenceMs: number): CodedFailure {
  if (exit.killedFor !== 'stop') return exitFailure(exit, silenceMs);
  return failure(
    'service_unavailable',
    'The trainer of the session was ended, since something else in it did not stop.',
  );
}

/**
 * The failure of the runs of a trainer that ended by itself or was killed. `gpu_unavailable` is no fault of the job.
 * @param silenceMs - The time that a trainer may be silent.
 */
function exitFailure(exit: ChildExit, silenceMs: number): CodedFailure {
  const { cause, how, lastLine } = explainExit(exit);
  switch (cause) {
    case 'silence':
      return failure('trainer_hung', `The trainer gave no sign of life for ${silenceMs / 1000} s and was killed.`);
    case 'gpu-lost':
      return failure('gpu_unavailable', 'The trainer no longer sees the GPU.');
    case 'out-of-memory':
      return failure(
        'out_of_memory',
        'The trainer was killed because memory ran out. Use a smaller batch_size (with more ' +
          'gradient_accumulation_steps), a smaller max_seq_length, or a machine with more memory.',
      );
    default:
      return failure('trainer_crashed', `The trainer ${how}.${lastLine === null ? '' : ` Its last line: ${lastLine}`}`);
  }
}

function failure(code: ErrorCode, message: string): CodedFailure {
  return { code, message, details: [] };
}
