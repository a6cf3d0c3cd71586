import { JobDeferred, type MachineProfile } from '@lorasmith/contracts';
import { availableMemory, jointMemory, type MemoryNeeds } from '@lorasmith/planning';

/**
 * The memory of this process, by the estimate: the base model once, what each run has, and the largest pass. A run that is
 * alone is admitted, since planning has refused what does not fit at all.
 */
export class MemoryLedger {
  readonly #passTokens: number;
  readonly #runs = new Set<MemoryNeeds>();
  #reservedBytes = 0;

  /** @param passTokens of a pass that several runs share */
  constructor(passTokens: number) {
    this.#passTokens = passTokens;
  }

  /**
   * Counts a run.
   * @param needs null where nothing is estimated: a classifier, or a machine that was not measured
   * @returns no longer counts it; call it once
   * @throws JobDeferred where it does not fit with the others
   */
  admit(needs: MemoryNeeds | null, machine: MachineProfile | null): () => void {
    if (needs === null || machine === null) return () => {};
    if (this.#runs.size > 0 || this.#reservedBytes > 0) {
      this.#requireSpace(machine, [...this.#runs, needs], this.#reservedBytes);
    }
    this.#runs.add(needs);
    return () => void this.#runs.delete(needs);
  }

  /**
   * Counts memory for something else than runs.
   * @returns no longer counts it; call it once
   * @throws JobDeferred where it does not fit with the runs
   */
  reserve(bytes: number, machine: MachineProfile | null): () => void {
    if (machine !== null && this.#runs.size > 0)
      this.#requireSpace(machine, [...this.#runs], this.#reservedBytes + bytes);
    this.#reservedBytes += bytes;
    return () => {
      this.#reservedBytes -= bytes;
    };
  }

  /** @throws JobDeferred where these runs, with `otherBytes` besides, do not fit into the machine */
  #requireSpace(machine: MachineProfile, runs: readonly MemoryNeeds[], otherBytes: number): void {
    const together = machine.base_memory_bytes + jointMemory(runs, this.#passTokens) + otherBytes;
    const available = availableMemory(machine);
    if (together <= available) return;
    throw new JobDeferred(
      `With the ${this.#runs.size} jobs that run, ${gigabytes(together)} would be needed of ${gigabytes(available)}.`,
    );
  }
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
