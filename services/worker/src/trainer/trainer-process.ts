import { type ChildProcess, fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { JobFailure, JobId, NewJobEvent, TrainingOutcome } from '@lorasmith/contracts';
import type { StopReason, TrainerOrder, TrainerReply, TrainerRequest } from './messages.js';
import { exitFailure } from './trainer-failure.js';

/** Lines of a trainer's output kept to say why it crashed. */
const KEPT_LINES = 20;
const MAX_LINE_LENGTH = 2_000;

export interface TrainerLimits {
  /**
   * A trainer that says nothing for so long is killed. One engine call may block it for a while, so this is far above
   * what a micro-batch takes.
   * @defaultValue 120 000
   */
  silenceMs: number;
  /** How long a trainer may take to stop once told to; a shutdown must end within the patience of who asked for it. */
  stopMs: Record<StopReason, number>;
  /** How long an idle trainer may take to go. */
  endMs: number;
}

export const DEFAULT_TRAINER_LIMITS: TrainerLimits = {
  silenceMs: 120_000,
  stopMs: { cancel: 30_000, shutdown: 20_000, 'time-limit': 60_000, 'lost-lock': 10_000 },
  endMs: 5_000,
};

export interface TrainerProcessOptions {
  /** The program to fork. */
  program: string;
  /** What the program is given on its command line. */
  arguments?: readonly string[];
  environment: NodeJS.ProcessEnv;
  limits: TrainerLimits;
  /** Gets each line that the trainer writes to its standard output or error, and the job it had then. */
  onLine: (line: string, job: JobId | undefined) => void;
}

export interface TrainCallbacks {
  /** Its reason is a {@link StopReason}. */
  signal: AbortSignal;
  onEvent: (event: NewJobEvent) => void;
}

export type TrainingResult =
  | { type: 'finished'; outcome: TrainingOutcome }
  | { type: 'stopped'; reason: StopReason }
  | { type: 'failed'; failure: JobFailure };

export interface TrainerCallbacks extends TrainCallbacks {
  /** Aborted, the trainer comes to an end after a step, in whatever time that takes: the result is `recycled`. */
  recycle: AbortSignal;
}

/** `recycled`: another trainer can go on where this one has stopped. */
export type TrainerResult = TrainingResult | { type: 'recycled' };

/** One trainer: a process of its own that trains one job at a time and is watched while it does. */
export interface TrainerProcess {
  /** Its process number. */
  readonly pid: number | undefined;
  /** False once it has ended or is about to. */
  readonly usable: boolean;
  /** Time spent training so far, all jobs together. */
  readonly trainedMs: number;
  /** Never rejects for what the trainer does: a crash, a silence and a stop are results. */
  train(order: TrainerOrder, callbacks: TrainerCallbacks): Promise<TrainerResult>;
  /** Lets it go, then kills it; resolves when it is gone. */
  end(): Promise<void>;
}

interface Run {
  number: number;
  job: JobId;
  onEvent: (event: NewJobEvent) => void;
  settle: (result: TrainerResult) => void;
  stopReason: StopReason | undefined;
}

export function forkTrainer(options: TrainerProcessOptions): TrainerProcess {
  const { program, environment, limits } = options;
  const child = fork(program, options.arguments ?? [], {
    env: environment,
    execArgv: [],
    // Keeps NaN and infinity, which JSON turns into null.
    serialization: 'advanced',
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const lines = keepLines(child, (line) => options.onLine(line, run?.job));
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });

  let usable = true;
  let trainedMs = 0;
  let run: Run | undefined;
  let runs = 0;
  /** Whether it has said anything yet: before that it holds nothing, and cannot hear. */
  let hasSpoken = false;
  let killedFor: JobFailure | undefined;
  let silence: NodeJS.Timeout | undefined;

  const kill = () => {
    usable = false;
    child.kill('SIGKILL');
  };
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => {
      killedFor = {
        code: 'trainer_hung',
        message: `The trainer gave no sign of life for ${limits.silenceMs / 1000} s and was ended.`,
        details: [],
      };
      kill();
    }, limits.silenceMs);
  };

  const onGone = (code: number | null, signal: NodeJS.Signals | null, error?: Error) => {
    usable = false;
    clearTimeout(silence);
    if (run === undefined) return;
    const { stopReason, settle } = run;
    // One that did not stop in time has been stopped all the same.
    if (stopReason !== undefined) settle({ type: 'stopped', reason: stopReason });
    else settle({ type: 'failed', failure: killedFor ?? exitFailure({ code, signal, error, lines: lines() }) });
  };
  child.once('error', (error) => onGone(null, null, error));
  // Not `exit`: what it wrote last may come after that, and says why.
  child.once('close', (code, signal) => onGone(code, signal));

  child.on('message', (reply: TrainerReply) => {
    hasSpoken = true;
    if (run === undefined) return;
    listen();
    if (reply.type === 'heartbeat' || reply.run !== run.number) return;
    switch (reply.type) {
      case 'event':
        return run.onEvent(reply.event);
      case 'finished':
        return run.settle({ type: 'finished', outcome: reply.outcome });
      case 'stopped':
        return run.settle({ type: 'stopped', reason: run.stopReason ?? 'shutdown' });
      case 'recycled':
        return run.settle({ type: 'recycled' });
      case 'failed':
        return run.settle({ type: 'failed', failure: reply.failure });
    }
  });

  const send = (request: TrainerRequest) => {
    // A trainer that is gone by now is heard of by its exit.
    child.send(request, () => {});
  };

  return {
    pid: child.pid,
    get usable() {
      return usable && child.connected;
    },
    get trainedMs() {
      return trainedMs;
    },
    train(order, { signal, recycle, onEvent }) {
      if (run !== undefined) throw new Error('forkTrainer: the trainer is at work already');
      const number = ++runs;
      const begin = Date.now();
      return new Promise((resolve) => {
        let stopTimer: NodeJS.Timeout | undefined;
        const stop = () => {
          const reason = signal.reason as StopReason;
          current.stopReason = reason;
          if (!hasSpoken) return kill();
          send({ type: 'stop', run: number, reason });
          stopTimer = setTimeout(kill, limits.stopMs[reason]);
        };
        const endAfterStep = () => send({ type: 'recycle', run: number });
        const current: Run = {
          number,
          job: order.job,
          onEvent,
          stopReason: undefined,
          settle(result) {
            run = undefined;
            trainedMs += Date.now() - begin;
            clearTimeout(silence);
            clearTimeout(stopTimer);
            signal.removeEventListener('abort', stop);
            recycle.removeEventListener('abort', endAfterStep);
            resolve(result);
          },
        };
        run = current;
        if (!usable) return onGone(child.exitCode, child.signalCode);
        listen();
        send({ type: 'train', run: number, order });
        if (recycle.aborted) endAfterStep();
        else recycle.addEventListener('abort', endAfterStep, { once: true });
        if (signal.aborted) stop();
        else signal.addEventListener('abort', stop, { once: true });
      });
    },
    async end() {
      usable = false;
      if (child.connected) child.disconnect();
      const timer = setTimeout(kill, limits.endMs);
      await exited;
      clearTimeout(timer);
    },
  };
}

/** Passes a child's lines on and keeps the last ones. */
function keepLines(child: ChildProcess, onLine: (line: string) => void): () => string[] {
  const kept: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream as Readable }).on('line', (line) => {
      const bounded = line.slice(0, MAX_LINE_LENGTH);
      kept.push(bounded);
      if (kept.length > KEPT_LINES) kept.shift();
      onLine(bounded);
    });
  }
  return () => [...kept];
}
