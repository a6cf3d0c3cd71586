import { type ErrorCode, type Fault, ProductError } from '@lorasmith/contracts';

export type CodedFault = Fault & { code: ErrorCode };

/** Enough to see what is wrong with a file; the rest is counted. */
const MAX_LISTED = 100;

/** Collects faults, to be thrown as one error at the end. */
export class FaultList {
  readonly #listed: CodedFault[] = [];
  #count = 0;

  /** The first of them. */
  get listed(): CodedFault[] {
    return this.#listed;
  }

  /** The number of all faults, listed or not. */
  get count(): number {
    return this.#count;
  }

  add(...faults: CodedFault[]): void {
    this.#count += faults.length;
    this.#listed.push(...faults.slice(0, MAX_LISTED - this.#listed.length));
  }

  /** Adds the faults of another list, also those that it only counted. */
  addAll({ listed, count }: { listed: readonly CodedFault[]; count: number }): void {
    this.add(...listed);
    this.#count += count - listed.length;
  }

  /** Adds the faults of the rows of a dataset that is not the one to train on. */
  addOfDataset(dataset: string, { listed, count }: FaultList): void {
    this.addAll({ listed: listed.map((fault) => ({ ...fault, dataset })), count });
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

  /** @throws ProductError with the code of the first fault, and every listed fault in `details`. */
  throwIfAny(): void {
    const [first] = this.#listed;
    if (first === undefined) return;
    const ofDataset = first.dataset === undefined ? '' : ` of the validation dataset ${first.dataset}`;
    const location = first.line === undefined ? '' : `Line ${first.line}${ofDataset}: `;
    const rest = this.#count > this.#listed.length ? `, of which the first ${this.#listed.length} are listed` : '';
    const others = this.#count > 1 ? ` (${this.#count} faults in all${rest})` : '';
    throw new ProductError(first.code, `${location}${first.message}${others}`, {
      param: first.param,
      details: this.#listed,
    });
  }
}
