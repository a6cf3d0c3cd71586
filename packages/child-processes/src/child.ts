import { type ChildProcess, fork } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';

/** A program that is started as a child process. */
export interface ChildProgram {
  /** A JavaScript file. */
  file: string;
  arguments?: readonly string[];
  /** Its whole environment. */
  environment: NodeJS.ProcessEnv;
}

/** Messages are distinguished by `type`. `heartbeat` is the host's own: it only proves that the child is alive. */
export interface ChildMessage {
  type: string;
}

/** The reason why a child was killed: it was silent for too long, took too long, or did not stop when asked. */
export type KillCause = 'silence' | 'time-limit' | 'stop';

/** The end of a child. */
export interface ChildExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Set when the process could not be started at all. */
  error: Error | null;
  /** Set when this process killed it. */
  killedFor: KillCause | null;
  /** The last lines that it wrote to its standard output and error. */
  lines: string[];
}

export interface StartChildOptions<Received extends ChildMessage> {
  program: ChildProgram;
  /** Called for every message except heartbeats. */
  onMessage: (message: Received) => void;
  /** Called for every line that the child writes to its standard output or error. */
  onLine?: ((line: string) => void) | undefined;
  /** True if the child has a stream of bytes to this process, in addition to its messages. */
  hasOutput?: boolean;
}

/** A running child process. It ends when its parent does; see `serveParent` and `answerParent`. */
export interface Child<Sent extends object> {
  readonly pid: number | undefined;
  /** The bytes that the child sends by `childOutput`; null without `hasOutput`. Read or destroy it, else the child never ends. */
  readonly output: Readable | null;
  /** False once it has ended, was killed or was asked to end. */
  readonly usable: boolean;
  /** True once it has sent a message. Until then it is loading and cannot react to any. */
  readonly hasSentMessage: boolean;
  /** Resolves once the child has ended and everything that it sent and wrote has arrived. Never rejects. */
  readonly ended: Promise<ChildExit>;
  /** Sends a message. A child that has ended meanwhile does not get it: `ended` says so. */
  send(message: Sent): void;
  /**
   * Kills the child after `silenceMs` without a message or heartbeat; for its first one it has at least {@link START_MS}.
   * `null` stops the watch.
   */
  watchSilence(silenceMs: number | null): void;
  kill(cause: KillCause): void;
  /** Closes the channel, upon which the child ends by itself; kills it after `patienceMs`. Resolves when it has ended. */
  end(patienceMs: number): Promise<void>;
}

/**
 * A process that the kernel waits for, for instance in the driver of a GPU that no longer answers, does not end when it is
 * killed. After so long it counts as ended.
 */
const UNKILLABLE_MS = 30_000;
/** A child that still loads its modules, from a slow disk or on a busy machine, can send nothing. */
const START_MS = 120_000;
/**
 * The count of parts in which a silence counts. This process reads messages between two of them, so if it was blocked or suspended
 * itself, what the child has sent meanwhile is read before the child is killed.
 */
const SILENCE_PARTS = 4;
/** The descriptor of `Child.output` in the child. The channel of messages has the one before it. */
export const OUTPUT_DESCRIPTOR = 4;
const KEPT_LINES = 20;
const MAX_LINE_CHARACTERS = 2_000;

/** Starts a program in a process of its own, with a message channel that keeps NaN, infinity and `undefined`. */
export function startChild<Sent extends object, Received extends ChildMessage>(
  options: StartChildOptions<Received>,
): Child<Sent> {
  return new ForkedChild(options);
}

class ForkedChild<Sent extends object, Received extends ChildMessage> implements Child<Sent> {
  readonly pid: number | undefined;
  readonly output: Duplex | null;
  readonly ended: Promise<ChildExit>;
  readonly #process: ChildProcess;
  readonly #lines: string[] = [];
  #usable = true;
  #isDisconnected = false;
  #hasSentMessage = false;
  #killedFor: KillCause | null = null;
  #silenceMs: number | null = null;
  #silence: NodeJS.Timeout | undefined;
  /** Counts a child that the kernel does not end as ended. */
  #abandon = () => {};

  constructor({ program, onMessage, onLine, hasOutput = false }: StartChildOptions<Received>) {
    const child = fork(program.file, program.arguments ?? [], {
      env: program.environment,
      execArgv: [],
      serialization: 'advanced',
      stdio: ['ignore', 'pipe', 'pipe', 'ipc', ...(hasOutput ? (['pipe'] as const) : [])],
    });
    this.#process = child;
    this.pid = child.pid;
    this.output = hasOutput ? (child.stdio[OUTPUT_DESCRIPTOR] as Duplex) : null;
    for (const stream of [child.stdout, child.stderr]) {
      readLines(stream as Readable, (line) => {
        this.#lines.push(line);
        if (this.#lines.length > KEPT_LINES) this.#lines.shift();
        onLine?.(line);
      });
    }
    this.ended = this.#watchEnd();
    child.on('message', (message: Received) => {
      this.#hasSentMessage = true;
      this.#restartSilence();
      if (message.type !== 'heartbeat') onMessage(message);
    });
  }

  get usable(): boolean {
    return this.#usable && this.#process.connected;
  }

  get hasSentMessage(): boolean {
    return this.#hasSentMessage;
  }

  send(message: Sent): void {
    if (this.#process.connected) this.#process.send(message, () => {});
  }

  watchSilence(silenceMs: number | null): void {
    this.#silenceMs = this.#usable ? silenceMs : null;
    this.#restartSilence();
  }

  kill(cause: KillCause): void {
    this.#usable = false;
    this.#killedFor ??= cause;
    // SIGKILL, since a child that is blocked in the engine handles no signal.
    this.#process.kill('SIGKILL');
    // The end of a child is not seen before that of its output.
    this.output?.destroy();
    setTimeout(() => this.#abandon(), UNKILLABLE_MS).unref();
  }

  async end(patienceMs: number): Promise<void> {
    this.#usable = false;
    if (this.#process.connected) {
      this.#isDisconnected = true;
      this.#process.disconnect();
    }
    const timer = setTimeout(() => this.kill('stop'), patienceMs);
    await this.ended;
    clearTimeout(timer);
  }

  #watchEnd(): Promise<ChildExit> {
    const child = this.#process;
    return new Promise<ChildExit>((resolve) => {
      const settle = (code: number | null, signal: NodeJS.Signals | null, error: Error | null) => {
        this.#usable = false;
        this.#silenceMs = null;
        clearInterval(this.#silence);
        resolve({ code, signal, error, killedFor: this.#killedFor, lines: this.#lines });
      };
      child.on('error', (error) => {
        // A process that runs reports its end by `close`.
        if (child.pid === undefined) settle(null, null, error);
      });
      // Not `exit`: messages and lines that were sent before it may arrive after it.
      child.once('close', (code, signal) => settle(code, signal, null));
      // Node emits no `close` once the parent has closed the channel; no message can arrive then either.
      child.once('exit', (code, signal) => {
        if (this.#isDisconnected) settle(code, signal, null);
      });
      this.#abandon = () => settle(null, 'SIGKILL', null);
    });
  }

  #restartSilence(): void {
    clearInterval(this.#silence);
    if (this.#silenceMs === null) return;
    const limitMs = this.#hasSentMessage ? this.#silenceMs : Math.max(this.#silenceMs, START_MS);
    let left = SILENCE_PARTS;
    this.#silence = setInterval(() => {
      left--;
      if (left === 0) this.kill('silence');
    }, limitMs / SILENCE_PARTS);
  }
}

/** Splits a stream into lines, each cut at {@link MAX_LINE_CHARACTERS}. */
function readLines(stream: Readable, onLine: (line: string) => void): void {
  let partial = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const [first = '', ...others] = text.split('\n');
    // Cut at once: a line that never ends must not fill the memory.
    partial = (partial + first).slice(0, MAX_LINE_CHARACTERS);
    for (const next of others) {
      onLine(partial.replace(/\r$/, ''));
      partial = next.slice(0, MAX_LINE_CHARACTERS);
    }
  });
  stream.once('end', () => {
    if (partial !== '') onLine(partial);
  });
}
