import {
  type ChildExit,
  type ChildProgram,
  cudaErrorIn,
  type ExitExplanation,
  endsCudaContext,
  explainExit,
  startChild,
} from '@lorasmith/child-processes';
import type { KernelSource } from '@lorasmith/contracts';
import type { CaseSizes, ComputedCase, SelfTestPart } from '@lorasmith/training';

/** The order to a process of the self-test. It has an engine of its own, which its environment decides. */
export interface SelfTestOrder {
  type: 'compute';
  part: SelfTestPart;
  sizes: CaseSizes;
  runs: 1 | 2;
  /** Cases to leave out. */
  skip: string[];
  kernels: KernelSource;
  /** Fused kernels not to use. */
  avoid: string[];
}

/** The replies of the process. Nothing follows the last two. */
export type SelfTestReply =
  | { type: 'started'; name: string }
  | { type: 'computed'; computed: ComputedCase }
  | { type: 'finished' }
  | { type: 'failed'; message: string };

export interface ComputePartOptions {
  /** `self-test-main`, with the environment of the engine. */
  program: ChildProgram;
  order: Omit<SelfTestOrder, 'type' | 'skip'>;
  /** A process in which a case has not ended for this long hangs. */
  silenceMs: number;
  /** Called with each outcome, whose numbers are not kept here. */
  onResult: (result: PartResult) => void;
  /** Called when a case has ended. @param hungMs the silence after which its process was killed; 0 where it was not */
  onEnded: (hungMs: number) => void;
  onLine: (line: string) => void;
  signal: AbortSignal;
}

/** The outcome of a case. Where its process died in it, its values are null, and of the case only the name is known. */
export type PartResult = Pick<ComputedCase, 'name' | 'values' | 'isRepeatable' | 'error'> & Partial<ComputedCase>;

/** The most dead processes for which single kernels are blamed. */
const MOST_DEATHS = 12;

/**
 * The self-test has no result: the engine could not be started, the CPU could not compute what the card is compared with, or the
 * time was over. That is no fault of the card. The message says what happened.
 */
export class SelfTestError extends Error {}

/** So many processes died that no single case can be blamed. */
export class TooManyDeathsError extends SelfTestError {}

/**
 * Computes one part of the self-test. A case in which the process dies or hangs, or after which the card takes no further
 * work from it, is a failed case; another process computes the others.
 *
 * @throws SelfTestError when the engine could not be started
 * @throws TooManyDeathsError
 */
export async function computePart(options: ComputePartOptions): Promise<void> {
  const done = new Set<string>();
  for (let deaths = 0; deaths <= MOST_DEATHS; deaths++) {
    if (await computeInOneProcess(options, done)) return;
  }
  throw new TooManyDeathsError(`${MOST_DEATHS + 1} processes died while they computed it`);
}

/** @param done names of the cases that have ended; those of this process are added. @returns true if all are done */
async function computeInOneProcess(
  { program, order, silenceMs, onResult, onEnded, onLine, signal }: ComputePartOptions,
  done: Set<string>,
): Promise<boolean> {
  signal.throwIfAborted();
  let current: string | null = null;
  let end: 'finished' | 'context-lost' | null = null;
  let failure: string | null = null;
  const child = startChild<SelfTestOrder, SelfTestReply>({
    program,
    onLine,
    onMessage(reply) {
      switch (reply.type) {
        case 'started':
          current = reply.name;
          return;
        case 'computed': {
          // Once the context is lost, every further case fails, whatever it computes.
          if (end !== null) return;
          current = null;
          const { computed } = reply;
          done.add(computed.name);
          onResult(computed);
          onEnded(0);
          const error = cudaErrorIn(computed.error ?? '');
          if (error === null || !endsCudaContext(error)) return;
          end = 'context-lost';
          return child.kill('stop');
        }
        case 'finished':
          end ??= 'finished';
          return void child.end(END_MS);
        case 'failed':
          failure = reply.message;
          return void child.end(END_MS);
      }
    },
  });
  const abort = () => child.kill('stop');
  signal.addEventListener('abort', abort, { once: true });
  child.watchSilence(silenceMs);
  child.send({ type: 'compute', ...order, skip: [...done] });
  const exit = await child.ended;
  signal.removeEventListener('abort', abort);
  signal.throwIfAborted();
  const dead = deadCaseOf({ end, failure, current, exit });
  if (dead === null) return end === 'finished';
  done.add(dead.result.name);
  onResult(dead.result);
  onEnded(dead.cause === 'silence' ? silenceMs : 0);
  return false;
}

/** The time that a process may take to end once it has nothing to do. */
const END_MS = 5_000;

/** The case in which a process died, and why it did; null: it ended as it should. @throws SelfTestError when it died in no case */
function deadCaseOf(ended: {
  end: 'finished' | 'context-lost' | null;
  failure: string | null;
  current: string | null;
  exit: ChildExit;
}): { result: PartResult; cause: ExitExplanation['cause'] } | null {
  const { end, failure, current, exit } = ended;
  if (end !== null) return null;
  if (failure !== null) throw new SelfTestError(failure);
  const { how, cause, lastLine } = explainExit(exit);
  if (current === null) throw new SelfTestError(`its process ${how}${lastLine === null ? '' : `: ${lastLine}`}`);
  const error = cause === 'silence' ? 'its process hung and was killed' : `its process ${how}`;
  return { result: { name: current, values: null, isRepeatable: false, error }, cause };
}
