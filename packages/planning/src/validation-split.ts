import { setImmediate } from 'node:timers/promises';
import { ProductError } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { seededPermutation } from '@lorasmith/seeded-random';
import type { ExampleFile } from './example-file/example-file.js';
import type { Examples } from './example-file/examples.js';
import { throwIfPlanningStopped } from './fault-list.js';
import type { Objective } from './objectives/objective.js';

/**
 * The count of rows that are held out: `ceil(split × rows)`.
 * @throws ProductError `validation_split_empty` when that would leave nothing to train on.
 */
export function heldOutCount(rows: number, split: number): number {
  const count = Math.ceil(split * rows);
  if (split === 0 || count < rows) return count;
  const message = `validation.split ${split} of ${rows} rows leaves none to train on. Lower it, or add rows.`;
  throw new ProductError('validation_split_empty', message, { param: 'validation.split' });
}

/**
 * The rows that are held out, drawn by the seed alone. The same dataset, split and seed always hold out the same rows, whatever
 * else the job sets.
 *
 * @returns The rows held out, by their index in the dataset.
 * @throws ProductError as {@link heldOutCount}
 */
export function heldOutRows(rows: number, split: number, seed: number): BitSet {
  const heldOut = new BitSet(rows);
  const count = heldOutCount(rows, split);
  if (count === 0) return heldOut;
  const order = seededPermutation(seed, 'validation split', rows);
  for (let index = 0; index < count; index++) heldOut.add(order.at(index));
  return heldOut;
}

const WORD_BITS = 32;
/** Words that one count of the directory stands for. */
const WORDS_PER_BLOCK = 16;

/** A set of the numbers 0 … length - 1 in one bit each, which also finds its n-th member. */
export class BitSet {
  readonly length: number;
  readonly #words: Uint32Array;
  /** Members before each block of words; computed when first needed. */
  #before: Uint32Array | null = null;
  #size = 0;

  constructor(length: number) {
    this.length = length;
    this.#words = new Uint32Array(Math.ceil(length / WORD_BITS));
  }

  /** The count of members. */
  get size(): number {
    return this.#size;
  }

  has(number: number): boolean {
    return ((this.#words[number >>> 5]! >>> (number & 31)) & 1) === 1;
  }

  add(number: number): void {
    if (this.has(number)) return;
    this.#words[number >>> 5]! |= 1 << (number & 31);
    this.#size++;
    this.#before = null;
  }

  /**
   * The n-th member, or the n-th number that is not a member.
   * @param n from 0, less than how many there are
   */
  nth(n: number, isMember: boolean): number {
    this.#before ??= this.#countBlocks();
    const before = this.#before;
    const countBefore = (block: number) =>
      isMember ? before[block]! : block * WORDS_PER_BLOCK * WORD_BITS - before[block]!;
    // The last block with at most n before it.
    let low = 0;
    let high = before.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (countBefore(middle) <= n) low = middle;
      else high = middle - 1;
    }
    let left = n - countBefore(low);
    for (let index = low * WORDS_PER_BLOCK; ; index++) {
      const word = isMember ? this.#words[index]! : ~this.#words[index]!;
      const inWord = bitsOf(word);
      if (left < inWord) return index * WORD_BITS + positionOf(word, left);
      left -= inWord;
    }
  }

  #countBlocks(): Uint32Array {
    const before = new Uint32Array(Math.max(1, Math.ceil(this.#words.length / WORDS_PER_BLOCK)));
    let members = 0;
    for (let index = 0; index < this.#words.length; index++) {
      if (index % WORDS_PER_BLOCK === 0) before[index / WORDS_PER_BLOCK] = members;
      members += bitsOf(this.#words[index]!);
    }
    return before;
  }
}

function bitsOf(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Position of the bit before which `left` others are set. */
function positionOf(word: number, left: number): number {
  let rest = word;
  for (let skipped = 0; skipped < left; skipped++) rest &= rest - 1;
  return 31 - Math.clz32(rest & -rest);
}

/** Records between two yields to the event loop: some milliseconds. */
const SCAN_RECORDS = 40_000;

/** All examples of a file, as one split. @throws ProductError `cancelled` */
export async function allExamples(
  file: ExampleFile,
  objective: { objective: Objective; model: ModelFolder },
  signal?: AbortSignal,
): Promise<Examples> {
  return (await splitExamples(file, new BitSet(0), objective, signal)).training;
}

/**
 * The two splits of a file of examples, with one bit in memory for each example.
 *
 * @param heldOut rows of the dataset, by their index
 * @throws ProductError `cancelled` when the signal is aborted
 */
export async function splitExamples(
  file: ExampleFile,
  heldOut: BitSet,
  { objective, model }: { objective: Objective; model: ModelFolder },
  signal?: AbortSignal,
): Promise<{ training: Examples; validation: Examples }> {
  const isHeldOut = heldOut.size > 0 ? new BitSet(file.count) : null;
  const [training, validation] = [noTotals(), noTotals()];
  const { tokensOf } = objective;
  for (let first = 0; first < file.count; first += SCAN_RECORDS) {
    let index = first;
    for (const record of file.records(first, Math.min(SCAN_RECORDS, file.count - first))) {
      const isValidation = heldOut.has(record.row);
      if (isValidation) isHeldOut!.add(index);
      const totals = isValidation ? validation : training;
      const tokens = tokensOf(record);
      totals.count++;
      totals.tokens += tokens;
      totals.trainedTokens += record.trained;
      totals.longest = Math.max(totals.longest, tokens);
      index++;
    }
    await setImmediate();
    throwIfPlanningStopped(signal);
  }
  const splitOf = (totals: typeof training, indexInFile: (index: number) => number): Examples =>
    objective.examples({ file, totals, indexInFile, tokensOf }, model);
  if (isHeldOut === null)
    return { training: splitOf(training, (index) => index), validation: splitOf(validation, none) };
  return {
    training: splitOf(training, (index) => isHeldOut.nth(index, false)),
    validation: splitOf(validation, (index) => isHeldOut.nth(index, true)),
  };
}

function noTotals() {
  return { count: 0, tokens: 0, trainedTokens: 0, longest: 0 };
}

function none(): never {
  throw new Error('no example is held out');
}
