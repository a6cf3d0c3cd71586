import { fileURLToPath } from 'node:url';
import { type Child, startChild } from '../../packages/child-processes/src/index.js';
import type { InstructionSet } from '../../packages/tensor/src/index.js';
import type { CaseSizes } from '../../packages/tensor/src/numeric-cases/index.js';
import type { ComputedCase } from '../../packages/training/src/self-test.js';

const PROGRAM = fileURLToPath(new URL('case-process-main.mjs', import.meta.url));

/** The kernels that compute a case: TensorFlow's own ops, or the fused ones, of a library or of the engine's own choice. */
export interface CaseKernels {
  kernels: 'fused' | 'raw';
  instructionSet?: InstructionSet | undefined;
}

export interface CaseRequest extends CaseKernels {
  type: 'compute';
  name: string;
  sizes: CaseSizes;
}

export type CaseReply =
  | { type: 'computed'; computed: ComputedCase; seconds: number }
  | { type: 'failed'; message: string };

/** A process that computes cases one after the other, so that no more than one is in memory. It ends with `end`. */
export class CaseProcess {
  readonly #child: Child<CaseRequest>;
  readonly #name: string;
  #waiting: { resolve: (reply: CaseReply) => void; reject: (error: Error) => void } | null = null;
  #ended: Error | null = null;

  /**
   * @param name of the process, for messages
   * @param environment names the engine
   */
  constructor(name: string, environment: NodeJS.ProcessEnv) {
    this.#name = name;
    this.#child = startChild<CaseRequest, CaseReply>({
      program: { file: PROGRAM, environment },
      onMessage: (reply) => this.#waiting?.resolve(reply),
    });
    void this.#child.ended.then(({ code, signal, lines }) => {
      this.#ended = new Error(`The process of ${name} ended with ${code ?? signal}: ${lines.join('\n')}`);
      this.#waiting?.reject(this.#ended);
    });
  }

  /** @returns the numbers, and the seconds of processor time that they took */
  async compute(request: Omit<CaseRequest, 'type'>): Promise<{ computed: ComputedCase; seconds: number }> {
    if (this.#ended !== null) throw this.#ended;
    const reply = await new Promise<CaseReply>((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#child.send({ type: 'compute', ...request });
    });
    this.#waiting = null;
    if (reply.type === 'failed') throw new Error(`${this.#name}: ${reply.message}`);
    return reply;
  }

  async end(): Promise<void> {
    await this.#child.end(5_000);
  }
}
