import { setImmediate } from 'node:timers/promises';
import { type ErrorCode, type Fault, ProductError } from '@lorasmith/contracts';

export type CodedFault = Fault & { code: ErrorCode };

/** The first faults of some rows, and how many they are. */
export interface CountedFaults {
  listed: readonly CodedFault[];
  count: number;
  /** See {@link FaultList.longest}. */
  longest?: CodedFault | null;
}

/** Enough to see what is wrong with a file; the rest is counted. */
const MAX_LISTED = 100;

/** Collects faults, to be thrown as one error at the end. */
export class FaultList {
  readonly #listed: CodedFault[] = [];
  #count = 0;
  #longest: CodedFault | null = null;

  /** The first of them. */
  get listed(): CodedFault[] {
    return this.#listed;
  }

  /** The number of all faults, listed or not. */
  get count(): number {
    return this.#count;
  }

  /** The fault of the longest of the rows that are too long, listed or not; null without one. */
  get longest(): CodedFault | null {
    return this.#longest;
  }

  add(...faults: CodedFault[]): void {
    for (const fault of faults) this.#noteLength(fault);
    this.#count += faults.length;
    this.#listed.push(...faults.slice(0, MAX_LISTED - this.#listed.length));
  }

  /** Adds the faults of another list, also those that it only counted. */
  addAll({ listed, count, longest = null }: CountedFaults): void {
    this.add(...listed);
    if (longest !== null) this.#noteLength(longest);
    this.#count += count - listed.length;
  }

  /** Adds the faults of the rows of a dataset that is not the one to train on. */
  addOfDataset(dataset: string, { listed, count, longest }: FaultList): void {
    this.addAll({
      listed: listed.map((fault) => ({ ...fault, dataset })),
      count,
      longest: longest && { ...longest, dataset },
    });
  }

  /** Adds the faults of an error, or the error itself as one. */
  addError(error: ProductError): void {
    if (error.details.length > 0) this.add(...(error.details as CodedFault[]));
    else
      this.add({
        code: error.code,
        message: error.message,
        ...(error.param === undefined ? {} : { param: error.param }),
      });
  }

  /** @throws ProductError with the code of the first fault, every listed fault in `details`, and among them that of the longest row. */
  throwIfAny(): void {
    const [first] = this.#listed;
    if (first === undefined) return;
    const ofDataset = first.dataset === undefined ? '' : ` of the validation dataset ${first.dataset}`;
    const location = first.line === undefined ? '' : `Line ${first.line}${ofDataset}: `;
    const rest = this.#count > this.#listed.length ? `, of which the first ${this.#listed.length} are listed` : '';
    const others = this.#count > 1 ? ` (${this.#count} faults in all${rest}${this.#longestText()})` : '';
    throw new ProductError(first.code, `${location}${first.message}${others}`, {
      param: first.param,
      details: this.#details(),
    });
  }

  #longestText(): string {
    if (this.#longest === null) return '';
    const { line, tokens, dataset } = this.#longest;
    const at = line === undefined ? '' : `, line ${line}${dataset === undefined ? '' : ` of ${dataset}`},`;
    return `; the longest row${at} has ${tokens} tokens`;
  }

  /** The listed faults, with that of the longest row instead of the last one where it is not among them. */
  #details(): CodedFault[] {
    const longest = this.#longest;
    if (longest === null || this.#listed.some(({ tokens }) => tokens === longest.tokens)) return this.#listed;
    return [...this.#listed.slice(0, MAX_LISTED - 1), longest];
  }

  #noteLength(fault: CodedFault): void {
    if (fault.tokens !== undefined && fault.tokens > (this.#longest?.tokens ?? 0)) this.#longest = fault;
  }
}

/** @throws ProductError `cancelled` once the signal is aborted */
export function throwIfPlanningStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw planningStopped(signal);
}

/** Lets the event loop continue. @throws ProductError `cancelled` once the signal is aborted */
export async function yieldToEvents(signal: AbortSignal | undefined): Promise<void> {
  await setImmediate();
  throwIfPlanningStopped(signal);
}

export function planningStopped(signal: AbortSignal | undefined): ProductError {
  return new ProductError('cancelled', `Planning was stopped (${String(signal?.reason)}).`);
}
