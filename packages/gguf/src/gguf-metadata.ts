import { ProductError } from '@lorasmith/contracts';
import type { GgufValue } from './gguf-header.js';

/** Typed access to the metadata of a GGUF file. Every error names the file and the key. */
export class GgufMetadata {
  readonly #values: ReadonlyMap<string, GgufValue>;
  readonly #label: string;

  constructor(values: ReadonlyMap<string, GgufValue>, label: string) {
    this.#values = values;
    this.#label = label;
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  keys(): string[] {
    return [...this.#values.keys()];
  }

  /** An integer from 0. @throws ProductError model_file_corrupt */
  count(key: string): number {
    const value = this.#values.get(key);
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw this.corrupt(key, 'must be an integer from 0');
    return value as number;
  }

  /**
   * An integer above 0. Without a `fallback`, the key is required.
   * @throws ProductError model_file_corrupt, model_not_supported
   */
  size(key: string, fallback?: number): number {
    const value = this.#values.get(key) ?? fallback;
    if (Array.isArray(value)) throw this.unsupported(key, 'differs between layers, which is not supported');
    if (!Number.isSafeInteger(value) || (value as number) < 1) throw this.corrupt(key, 'must be an integer above 0');
    return value as number;
  }

  /** @throws ProductError model_file_corrupt */
  positiveNumber(key: string, fallback?: number): number {
    const value = this.#values.get(key) ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
      throw this.corrupt(key, 'must be a number above 0');
    }
    return value;
  }

  /** @throws ProductError model_file_corrupt */
  flag(key: string, fallback: boolean): boolean {
    const value = this.#values.get(key) ?? fallback;
    if (typeof value !== 'boolean') throw this.corrupt(key, 'must be true or false');
    return value;
  }

  /** @throws ProductError model_file_corrupt */
  text(key: string): string | undefined {
    const value = this.#values.get(key);
    if (value !== undefined && typeof value !== 'string') throw this.corrupt(key, 'must be a string');
    return value;
  }

  /** @throws ProductError model_file_corrupt */
  texts(key: string): string[] {
    const value = this.#values.get(key);
    if (!Array.isArray(value) || value.length === 0) throw this.corrupt(key, 'must be a list of strings');
    if (!value.every((element): element is string => typeof element === 'string')) {
      throw this.corrupt(key, 'must contain only strings');
    }
    return value;
  }

  /** @throws ProductError model_file_corrupt */
  integers(key: string): number[] {
    const value = this.#values.get(key);
    if (!Array.isArray(value) || !value.every((element) => Number.isSafeInteger(element))) {
      throw this.corrupt(key, 'must be a list of integers');
    }
    return value as number[];
  }

  /** A token id within the vocabulary, or null. @throws ProductError model_file_corrupt */
  tokenId(key: string, vocabSize: number): number | null {
    const value = this.#values.get(key);
    if (value === undefined) return null;
    if (!Number.isSafeInteger(value) || (value as number) < 0 || (value as number) >= vocabSize) {
      throw this.corrupt(key, `must be a token id below ${vocabSize}`);
    }
    return value as number;
  }

  corrupt(key: string, what: string): ProductError {
    return new ProductError('model_file_corrupt', `${this.#label}: ${key} ${what}.`);
  }

  unsupported(key: string, what: string): ProductError {
    return new ProductError('model_not_supported', `${this.#label}: ${key} ${what}.`);
  }
}
