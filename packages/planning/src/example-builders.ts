import type { FeaturesRow } from '@lorasmith/contracts';
import type { EncodedRow } from './encode-segments.js';
import type { FeatureExamples, TokenExamples } from './examples.js';
import { GrowingArray } from './growing-array.js';

/** Gathers token sequences. */
export class TokenExamplesBuilder {
  readonly #ids = new GrowingArray((length) => new Int32Array(length));
  readonly #trained = new GrowingArray((length) => new Uint8Array(length));
  readonly #offsets = new GrowingArray((length) => new Float64Array(length));
  readonly #lines = new GrowingArray((length) => new Int32Array(length));
  #trainedTokens = 0;

  constructor() {
    this.#offsets.push(0);
  }

  add({ ids, trained }: EncodedRow, line: number): void {
    this.#ids.append(ids);
    this.#trained.append(trained);
    this.#offsets.push(this.#ids.length);
    this.#lines.push(line);
    for (const flag of trained) this.#trainedTokens += flag;
  }

  get count(): number {
    return this.#lines.length;
  }

  get tokens(): number {
    return this.#ids.length;
  }

  get trainedTokens(): number {
    return this.#trainedTokens;
  }

  finish(): TokenExamples {
    return {
      kind: 'tokens',
      ids: this.#ids.finish(),
      trained: this.#trained.finish(),
      offsets: this.#offsets.finish(),
      lines: this.#lines.finish(),
    };
  }
}

/** Gathers rows of a classifier's dataset; a row counts as a token in the report. */
export class FeatureExamplesBuilder {
  readonly #features = new GrowingArray((length) => new Float32Array(length));
  readonly #labels = new GrowingArray((length) => new Int32Array(length));
  readonly #lines = new GrowingArray((length) => new Int32Array(length));
  readonly #width: number;

  constructor(width: number) {
    this.#width = width;
  }

  add({ features, label }: FeaturesRow, line: number): void {
    this.#features.append(features);
    this.#labels.push(label);
    this.#lines.push(line);
  }

  get count(): number {
    return this.#lines.length;
  }

  get tokens(): number {
    return this.#lines.length;
  }

  get trainedTokens(): number {
    return this.#lines.length;
  }

  finish(): FeatureExamples {
    return {
      kind: 'features',
      features: this.#features.finish(),
      width: this.#width,
      labels: this.#labels.finish(),
      lines: this.#lines.finish(),
    };
  }
}
