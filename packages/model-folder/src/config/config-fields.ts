import { ProductError } from '@lorasmith/contracts';
import type { Activation } from '../architecture.js';
import type { JsonObject } from './json-file.js';

/** Far above any size in a real configuration. A larger value is a mistake, or an attempt to exhaust memory. */
const MAX_SIZE = 2 ** 24;

/**
 * Typed access to a configuration file. A null field counts as absent, as in transformers.
 *
 * Every method throws ProductError model_file_corrupt, naming file and field, for a value of the wrong type.
 */
export class ConfigFields {
  readonly #values: JsonObject;
  readonly #label: string;
  readonly #prefix: string;

  /**
   * @param label the file's name in messages
   * @param prefix the object's path within the file, with a trailing dot
   */
  constructor(values: JsonObject, label: string, prefix = '') {
    this.#values = values;
    this.#label = label;
    this.#prefix = prefix;
  }

  has(name: string): boolean {
    return this.value(name) !== undefined;
  }

  /** True if the field is present and null, for fields where null and absent differ. */
  isNull(name: string): boolean {
    return Object.hasOwn(this.#values, name) && this.#values[name] === null;
  }

  get isEmpty(): boolean {
    return this.names.length === 0;
  }

  /** The names of the fields, including those that are null. */
  get names(): string[] {
    return Object.keys(this.#values);
  }

  value(name: string): unknown {
    return Object.hasOwn(this.#values, name) ? (this.#values[name] ?? undefined) : undefined;
  }

  /** An integer from 1 to `max` (default 2^24). Without a `fallback`, the field is required. */
  size(name: string, { fallback, max = MAX_SIZE }: { fallback?: number | undefined; max?: number } = {}): number {
    const value = this.value(name) ?? fallback;
    if (value === undefined) throw this.corrupt(name, 'is missing');
    if (!Number.isSafeInteger(value) || (value as number) < 1 || (value as number) > max) {
      throw this.corrupt(name, `must be an integer from 1 to ${max}`);
    }
    return value as number;
  }

  /** The size as {@link size} reads it, but null if the field is null, or missing where the `fallback` is null. */
  sizeOrNull(name: string, fallback: number | null): number | null {
    if (fallback === null) return this.has(name) ? this.size(name) : null;
    return this.isNull(name) ? null : this.size(name, { fallback });
  }

  /** An integer from 0. */
  count(name: string, fallback: number): number {
    const value = this.value(name) ?? fallback;
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw this.corrupt(name, 'must be an integer from 0');
    return value as number;
  }

  number(name: string, fallback: number): number {
    const value = this.value(name) ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value)) throw this.corrupt(name, 'must be a number');
    return value;
  }

  /** Exactly `length` numbers above 0. The field is required. */
  positiveNumbers(name: string, length: number): number[] {
    const values = this.value(name);
    const isPositive = (value: unknown) => typeof value === 'number' && Number.isFinite(value) && value > 0;
    if (!Array.isArray(values) || values.length !== length || !values.every(isPositive)) {
      throw this.corrupt(name, `must list ${length} numbers above 0`);
    }
    return values;
  }

  /** The number as {@link positiveNumber} reads it, but null if the field is null, or missing where the `fallback` is null. */
  positiveNumberOrNull(name: string, fallback: number | null): number | null {
    if (fallback === null) return this.has(name) ? this.positiveNumber(name) : null;
    return this.isNull(name) ? null : this.positiveNumber(name, fallback);
  }

  /** A number above 0. Without a `fallback`, the field is required. */
  positiveNumber(name: string, fallback?: number): number {
    const value = this.value(name) ?? fallback;
    if (value === undefined) throw this.corrupt(name, 'is missing');
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
      throw this.corrupt(name, 'must be a number above 0');
    }
    return value;
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.value(name) ?? fallback;
    if (typeof value !== 'boolean') throw this.corrupt(name, 'must be true or false');
    return value;
  }

  text(name: string): string | undefined {
    const value = this.value(name);
    if (value !== undefined && typeof value !== 'string') throw this.corrupt(name, 'must be a string');
    return value;
  }

  /** One token id or a list of them; empty if the field is absent. */
  tokenIds(name: string, vocabSize: number): number[] {
    const value = this.value(name);
    if (value === undefined) return [];
    const ids: unknown[] = Array.isArray(value) ? value : [value];
    if (
      !ids.every((id): id is number => Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) < vocabSize)
    ) {
      throw this.corrupt(name, `must contain token ids from 0 to ${vocabSize - 1}`);
    }
    return ids;
  }

  nested(name: string): ConfigFields | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'object' || Array.isArray(value)) throw this.corrupt(name, 'must be an object');
    return new ConfigFields(value as JsonObject, this.#label, `${this.#prefix}${name}.`);
  }

  /** The error for an invalid value. */
  corrupt(name: string, what: string): ProductError {
    return new ProductError('model_file_corrupt', `${this.#label}: ${this.#prefix}${name} ${what}.`);
  }

  /** The error for a valid value that Lorasmith does not support. */
  unsupported(name: string, what: string): ProductError {
    const shown = JSON.stringify(this.value(name) ?? null).slice(0, 200);
    return new ProductError('model_not_supported', `${this.#label}: ${this.#prefix}${name} ${shown} ${what}.`);
  }
}

/** The activations by their names in transformers. */
const ACTIVATIONS: ReadonlyMap<string, Activation> = new Map([
  ['relu', 'relu'],
  ['relu2', 'relu2'],
  ['gelu', 'gelu'],
  ['gelu_python', 'gelu'],
  ['gelu_new', 'gelu_tanh'],
  ['gelu_fast', 'gelu_tanh'],
  ['gelu_accurate', 'gelu_tanh'],
  ['gelu_pytorch_tanh', 'gelu_tanh'],
  ['gelu_python_tanh', 'gelu_tanh'],
  ['quick_gelu', 'quick_gelu'],
  ['silu', 'silu'],
  ['swish', 'silu'],
  ['tanh', 'tanh'],
  ['sigmoid', 'sigmoid'],
]);

/** @throws ProductError model_not_supported */
export function readActivation(config: ConfigFields, field: string, fallback: string): Activation {
  const activation = ACTIVATIONS.get(config.text(field) ?? fallback);
  if (!activation) throw config.unsupported(field, `is not supported; ${[...ACTIVATIONS.keys()].join(', ')} are`);
  return activation;
}
