import { type ErrorCode, type Fault, ProductError } from '@lorasmith/contracts';

export type CodedFault = Fault & { code: ErrorCode };

/** Enough to see what is wrong with a file; the rest is counted. */
const MAX_KEPT = 100;

/** Faults found one after the other, thrown at the end as one error. */
export class FaultList {
  readonly #kept: CodedFault[] = [];
  #count = 0;

  /** The first of them. */
  get kept(): CodedFault[] {
    return this.#kept;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  add(...faults: CodedFault[]): void {
    this.#count += faults.length;
    this.#kept.push(...faults.slice(0, MAX_KEPT - this.#kept.length));
  }

  /** Takes the faults of another list, also those that it only counted. */
  addAll(other: FaultList): void {
    this.add(...other.#kept);
    this.#count += other.#count - other.#kept.length;
  }

  /** Takes the faults of an error, or the error itself as one. */
  addError(error: ProductError): void {
    if (error.details.length > 0) this.add(...(error.details as CodedFault[]));
    else
      this.add({
        code: error.code,
        message: error.message,
        ...(error.param === undefined ? {} : { param: error.param }),
      });
  }

  /** @throws ProductError with the code of the first fault, and every kept fault in `details`. */
  throwIfAny(): void {
    const [first] = this.#kept;
    if (first === undefined) return;
    const place = first.line === undefined ? '' : `Line ${first.line}: `;
    const rest = this.#count > this.#kept.length ? `, of which the first ${this.#kept.length} are listed` : '';
    const others = this.#count > 1 ? ` (${this.#count} faults in all${rest})` : '';
    throw new ProductError(first.code, `${place}${first.message}${others}`, {
      param: first.param,
      details: this.#kept,
    });
  }
}
