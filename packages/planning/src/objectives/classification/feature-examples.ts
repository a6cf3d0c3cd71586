import { type Examples, type SideSource, StoredSide } from '../../example-file/examples.js';

/** Rows of a classifier's dataset. */
export interface FeatureExamples extends Examples {
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
    return featuresOfCodes(this.codes(index));
  }

  label(index: number): number {
    return this.lastCode(index);
  }
}

/** Codes of 4 bytes: the features as float32, then the label. */
export function codesOfFeatures(features: readonly number[], label: number): Int32Array {
  const codes = new Int32Array(features.length + 1);
  new Float32Array(codes.buffer).set(features);
  codes[features.length] = label;
  return codes;
}

function featuresOfCodes(codes: Int32Array): { features: Float32Array; label: number } {
  const width = codes.length - 1;
  return { features: new Float32Array(codes.buffer, codes.byteOffset, width), label: codes[width]! };
}
