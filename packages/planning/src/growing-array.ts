/** A typed array that grows by doubling: millions of numbers without an object for each. */
export class GrowingArray<Numbers extends Int32Array | Uint8Array | Float32Array | Float64Array> {
  #numbers: Numbers;
  #length = 0;
  readonly #allocate: (length: number) => Numbers;

  /** @param allocate for instance `(length) => new Int32Array(length)` */
  constructor(allocate: (length: number) => Numbers) {
    this.#allocate = allocate;
    this.#numbers = allocate(1024);
  }

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    this.#makeRoom(1);
    this.#numbers[this.#length++] = value;
  }

  append(values: ArrayLike<number>): void {
    this.#makeRoom(values.length);
    this.#numbers.set(values, this.#length);
    this.#length += values.length;
  }

  /** The numbers in an array of just their length. */
  finish(): Numbers {
    return this.#numbers.slice(0, this.#length) as Numbers;
  }

  #makeRoom(count: number): void {
    const needed = this.#length + count;
    if (needed <= this.#numbers.length) return;
    const larger = this.#allocate(Math.max(needed, 2 * this.#numbers.length));
    larger.set(this.#numbers);
    this.#numbers = larger;
  }
}
