import type { ChildProgram } from '@lorasmith/child-processes';
import type { SelfTest } from '@lorasmith/contracts';
import type { CaseSizes, ComputedCase, SelfTestPart } from '@lorasmith/training';
import { trainerEnvironment } from '../trainer/trainer-program.js';
import { computePart, type PartResult, SelfTestError, TooManyDeathsError } from './compute-part.js';
import { type CaseVerdict, failuresIn, judgeCase, judgeEngine, type TestedKernels } from './judge-engine.js';

export interface SelfTestRunOptions {
  /** The compiled `self-test-main`. */
  program: string;
  /** Environments of engine processes: of the CUDA engine, and of the engine on the CPU. */
  environments: Record<'card' | 'cpu', NodeJS.ProcessEnv>;
  /** @defaultValue full */
  sizes?: CaseSizes;
  /** @defaultValue SELF_TEST_LIMITS */
  limits?: SelfTestLimits;
  /** Called with each judged case. */
  onVerdict?: (verdict: CaseVerdict) => void;
  /** Called for each line that a process writes. */
  onLine?: (line: string) => void;
  signal?: AbortSignal;
}

/**
 * Compares the CUDA engine with the CPU: every fused kernel, every simple op and product, then whole training steps with the
 * kernels that passed, and where those are wrong, with plain ops only. Each is computed in two processes from the same numbers, on
 * the card twice.
 *
 * @throws SelfTestError when the test has no result
 */
export async function runSelfTest(options: SelfTestRunOptions): Promise<SelfTest> {
  const { limits = SELF_TEST_LIMITS } = options;
  const startMs = performance.now();
  const limit = new TestLimit(limits.startMs);
  const signal = options.signal === undefined ? limit.signal : AbortSignal.any([limit.signal, options.signal]);
  const ended = { card: 0, cpu: 0 };
  const onEnded = (device: 'card' | 'cpu', hungMs: number) => {
    ended[device]++;
    limit.extend(limits.caseMs + hungMs);
  };
  try {
    const { verdicts, kernels, avoided, distrust } = await judgeEngine((part, tested) =>
      comparePart(part, tested, { ...options, limits, signal, onEnded }),
    );
    return {
      tested_at: new Date().toISOString(),
      seconds: Math.round(performance.now() - startMs) / 1000,
      cases: verdicts.length,
      failed: failuresIn(verdicts).map(({ name, fault }) => ({ case: name, fault: fault! })),
      kernels,
      avoided_kernels: avoided,
      distrust,
    };
  } catch (error) {
    options.signal?.throwIfAborted();
    if (!limit.signal.aborted) throw error;
    const seconds = Math.round((performance.now() - startMs) / 1000);
    throw new SelfTestError(
      `it did not end within ${seconds} s: ${ended.card} cases were computed on the card, ${ended.cpu} on the CPU. This machine is ` +
        'too slow or too busy for it, which is no fault of the card. Stop what else computes here, or set GPU_SELF_TEST=small, ' +
        'which compares less',
    );
  } finally {
    limit.stop();
  }
}

interface ComparePartOptions extends SelfTestRunOptions {
  limits: SelfTestLimits;
  signal: AbortSignal;
  /** @param hungMs the silence after which its process was killed; 0 where it was not */
  onEnded: (device: 'card' | 'cpu', hungMs: number) => void;
}

/** Both processes compute at the same time, and both with fused kernels or with plain ops. */
async function comparePart(
  part: SelfTestPart,
  { kernels, avoid }: TestedKernels,
  options: ComparePartOptions,
): Promise<CaseVerdict[]> {
  const { program, environments, limits, sizes = 'full', onVerdict, onEnded, onLine = () => {}, signal } = options;
  const failing = new AbortController();
  const results = new CaseResults();
  const compute = async (device: 'card' | 'cpu'): Promise<void> => {
    const child: ChildProgram = { file: program, environment: trainerEnvironment(environments[device]) };
    const ofDevice = device === 'card' ? { runs: 2 as const, avoid } : { runs: 1 as const, avoid: [] };
    try {
      await computePart({
        program: child,
        order: { part, sizes, kernels, ...ofDevice },
        silenceMs: limits.silenceMs[device],
        onResult: (result) => results.add(device, result),
        onEnded: (hungMs) => onEnded(device, hungMs),
        onLine,
        signal: AbortSignal.any([signal, failing.signal]),
      });
    } catch (error) {
      if (failing.signal.aborted) throw error;
      const isOfCpu = device === 'cpu' && error instanceof TooManyDeathsError;
      const reason = isOfCpu ? new SelfTestError(`on the CPU, ${error.message}`) : error;
      // The other device has nothing to be compared with.
      failing.abort(reason);
      throw reason;
    }
  };
  const judged = (verdict: CaseVerdict): CaseVerdict => {
    const named = kernels === 'raw' ? { ...verdict, name: `${verdict.name} with plain ops only` } : verdict;
    onVerdict?.(named);
    return named;
  };
  try {
    await Promise.all([compute('card'), compute('cpu')]);
    return results.verdicts().map(judged);
  } catch (error) {
    if (!(error instanceof TooManyDeathsError)) throw error;
    // Of all cases together: no single one can be blamed.
    return [
      judged({ name: `all ${part}`, subject: { kind: 'training', name: part }, fault: error.message, excess: null }),
    ];
  }
}

/** The results of both devices: a case is judged when both have computed it, because its numbers on both take megabytes. */
class CaseResults {
  readonly #results = { card: new Map<string, PartResult>(), cpu: new Map<string, PartResult>() };
  readonly #verdicts: CaseVerdict[] = [];

  add(device: 'card' | 'cpu', result: PartResult): void {
    const { name } = result;
    this.#results[device].set(name, result);
    const [card, cpu] = [this.#results.card.get(name), this.#results.cpu.get(name)];
    // Where the CPU has no result, the test has none either, which is said once both have ended.
    if (card === undefined || cpu === undefined || cpu.values === null) return;
    this.#verdicts.push(judge(card, cpu));
    this.#results.card.delete(name);
    this.#results.cpu.delete(name);
  }

  /** All verdicts, also of the cases that only the CPU has computed. @throws SelfTestError */
  verdicts(): CaseVerdict[] {
    const rest = [...this.#results.cpu.values()].map((cpu) => judge(this.#results.card.get(cpu.name), cpu));
    return [...this.#verdicts, ...rest];
  }
}

/** @throws SelfTestError when the CPU could not compute the case */
function judge(card: PartResult | undefined, cpu: PartResult): CaseVerdict {
  const { name, values, error } = cpu;
  if (values === null) throw new SelfTestError(`the CPU could not compute ${name}: ${error}`);
  return judgeCase(
    card ?? { name, values: null, isRepeatable: false, error: 'it was not computed' },
    cpu as ComputedCase,
  );
}

/** The time that a self-test may take. A slow host needs much of it, and is no fault of the card. */
export interface SelfTestLimits {
  /** A process in which a case has not ended for this long hangs. */
  silenceMs: Record<'card' | 'cpu', number>;
  /** The time of the whole test without its cases. */
  startMs: number;
  /** The time that each case adds once it has ended, on the card and on the CPU. */
  caseMs: number;
}

/** Limits for a host with two slow cores. Starting the driver and loading every kernel is part of the first case. */
export const SELF_TEST_LIMITS: SelfTestLimits = {
  silenceMs: { card: 120_000, cpu: 300_000 },
  startMs: 300_000,
  caseMs: 2_000,
};

/** A limit of time that grows as the work continues. */
export class TestLimit {
  readonly #controller = new AbortController();
  #deadlineMs: number;
  #timer: NodeJS.Timeout | undefined;

  /** Starts the time. */
  constructor(startMs: number) {
    this.#deadlineMs = performance.now() + startMs;
    this.#wait();
  }

  /** Aborted once the time is over. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  extend(ms: number): void {
    this.#deadlineMs += ms;
    this.#wait();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #wait(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(), this.#deadlineMs - performance.now());
  }
}
