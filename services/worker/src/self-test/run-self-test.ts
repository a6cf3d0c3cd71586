import type { ChildProgram } from '@lorasmith/child-processes';
import type { SelfTest } from '@lorasmith/contracts';
import type { CaseSizes, ComputedCase, SelfTestPart } from '@lorasmith/training';
import { trainerEnvironment } from '../trainer/trainer-environment.js';
import { type CaseVerdict, judgeCase } from './compare-results.js';
import { computePart, type PartResult, SelfTestError } from './compute-part.js';

export interface SelfTestRunOptions {
  /** The compiled `self-test-main`. */
  program: string;
  /** Environments of engine processes: of the CUDA engine, and of the engine on the CPU. */
  environments: Record<'card' | 'cpu', NodeJS.ProcessEnv>;
  /** @defaultValue full */
  sizes?: CaseSizes;
  /** Called with each judged case. */
  onVerdict?: (verdict: CaseVerdict) => void;
  /** Called for each line that a process writes. */
  onLine?: (line: string) => void;
  signal?: AbortSignal;
}

/** Starting the driver and loading every kernel is part of the first case. */
const SILENCE_MS = 60_000;
/** More than any card takes; ends a test that does not get on. */
const LIMIT_MS = 300_000;
/** The most cases that a message lists. */
const MOST_NAMED = 5;

/**
 * Compares the CUDA engine with the CPU: every fused kernel, every simple op and product, then whole training steps with the
 * kernels that passed. Each is computed in two processes from the same numbers, on the card twice.
 */
export async function runSelfTest(options: SelfTestRunOptions): Promise<SelfTest> {
  const startMs = performance.now();
  const limit = AbortSignal.timeout(LIMIT_MS);
  const signal = options.signal === undefined ? limit : AbortSignal.any([limit, options.signal]);
  const verdicts: CaseVerdict[] = [];
  const finished = (distrust: string | null): SelfTest => ({
    tested_at: new Date().toISOString(),
    seconds: Math.round(performance.now() - startMs) / 1000,
    cases: verdicts.length,
    failed: failuresIn(verdicts).map(({ name, fault }) => ({ case: name, fault: fault! })),
    avoided_kernels: avoidedIn(verdicts),
    distrust,
  });
  try {
    verdicts.push(...(await comparePart('kernels', [], { ...options, signal })));
    const basic = failuresIn(verdicts).filter(({ subject }) => subject.kind !== 'kernel');
    if (basic.length > 0) return finished(`wrong on this card: ${listed(basic)}`);
    const steps = await comparePart('training', avoidedIn(verdicts), { ...options, signal });
    verdicts.push(...steps);
    const wrong = failuresIn(steps);
    return finished(wrong.length === 0 ? null : `wrong on this card: ${listed(wrong)}`);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (limit.aborted) return finished(`it took longer than ${LIMIT_MS / 1000} s`);
    if (error instanceof SelfTestError) return finished(error.message);
    throw error;
  }
}

/** Both processes compute at the same time. */
async function comparePart(
  part: SelfTestPart,
  avoid: string[],
  options: SelfTestRunOptions & { signal: AbortSignal },
): Promise<CaseVerdict[]> {
  const { program, environments, sizes = 'full', onVerdict, onLine = () => {}, signal } = options;
  const failing = new AbortController();
  const compute = async (side: 'card' | 'cpu'): Promise<Map<string, PartResult>> => {
    const child: ChildProgram = { file: program, environment: trainerEnvironment(environments[side]) };
    const order = {
      part,
      sizes,
      runs: side === 'card' ? (2 as const) : (1 as const),
      avoid: side === 'card' ? avoid : [],
    };
    const either = AbortSignal.any([signal, failing.signal]);
    try {
      return await computePart({ program: child, order, silenceMs: SILENCE_MS, onLine, signal: either });
    } catch (error) {
      // The other side has nothing to be compared with.
      failing.abort(error);
      throw error;
    }
  };
  const [card, cpu] = await Promise.all([compute('card'), compute('cpu')]);
  return [...cpu.values()].map((expected) => {
    const verdict = judgeCase(card.get(expected.name) ?? notComputed(expected.name), expected as ComputedCase);
    onVerdict?.(verdict);
    return verdict;
  });
}

function notComputed(name: string): PartResult {
  return { name, values: null, isRepeatable: false, error: 'it was not computed' };
}

function failuresIn(verdicts: readonly CaseVerdict[]): CaseVerdict[] {
  return verdicts.filter(({ fault }) => fault !== null);
}

function avoidedIn(verdicts: readonly CaseVerdict[]): string[] {
  const kernels = failuresIn(verdicts).filter(({ subject }) => subject.kind === 'kernel');
  return [...new Set(kernels.map(({ subject }) => subject.name))].sort();
}

function listed(failures: readonly CaseVerdict[]): string {
  const named = failures.slice(0, MOST_NAMED).map(({ name, fault }) => `${name} (${fault})`);
  const others = failures.length - named.length;
  return `${named.join('; ')}${others > 0 ? `; and ${others} more` : ''}`;
}
