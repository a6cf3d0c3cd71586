import { type ExampleSide, type SideSource, StoredSide } from '../../example-file/example-side.js';

/** Rows of a classifier's dataset. */
export interface FeatureExamples extends ExampleSide {
  kind: 'classification';
  width: number;
  /** `features`: `[width]`. */
  row(index: number): { features: Float32Array; label: number };
  label(index: number): number;
}

export class StoredFeatures extends StoredSide implements FeatureExamples {
  readonly kind = 'classification';
  readonly width: number;

  constructor(source: SideSource, width: number) {
    super(source);
    this.width = width;
  }

  row(index: number): { features: Float32Array; label: number } {
    return featuresOfWords(this.words(index));
  }

  label(index: number): number {
    return this.lastWord(index);
  }
}

/** Words of 4 bytes: the features as float32, then the label. */
export function wordsOfFeatures(features: readonly number[], label: number): Int32Array {
  const words = new Int32Array(features.length + 1);
  new Float32Array(words.buffer).set(features);
  words[features.length] = label;
  return words;
}

function featuresOfWords(words: Int32Array): { features: Float32Array; label: number } {
  const width = words.length - 1;
  return { features: new Float32Array(words.buffer, words.byteOffset, width), label: words[width]! };
}
