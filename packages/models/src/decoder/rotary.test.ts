import { rotaryTable, scope, toFloat32Array } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { Rotary, ropeRotation } from './rotary.js';

// LlamaRotaryEmbedding(config).inv_freq of transformers 5.24, printed as float32 numbers.
describe('llama3 scaling has the frequencies of transformers', () => {
  const scaling = { type: 'llama3', lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 } as const;
  const llama31 = (factor: number, headDim: number) => {
    const rope = { theta: 500_000, partialRotaryFactor: 1, interleaved: false, scaling: { ...scaling, factor } };
    return ropeRotation(rope, headDim, 1).frequencies;
  };

  test('the frequencies of Llama 3.1 (head_dim 128, factor 8): kept, blended and stretched ones', () => {
    const expected: [index: number, frequency: number][] = [
      [0, 1],
      [1, 0.8146172165870667],
      [16, 0.03760603070259094],
      [28, 0.0032114461064338684],
      [29, 0.0021665706299245358],
      [30, 0.0013718936825171113],
      [31, 0.0008567514596506953],
      [32, 0.0005248460220173001],
      [33, 0.0003126936499029398],
      [34, 0.0001785077911335975],
      [35, 9.556212171446532e-5],
      [36, 7.784655463183299e-5],
      [40, 3.428102354519069e-5],
      [63, 3.068925877869333e-7],
    ];
    const frequencies = llama31(8, 128);
    expect(frequencies).toHaveLength(64);
    for (const [index, frequency] of expected) expect(frequencies[index]! / frequency).toBeCloseTo(1, 5);
  });

  test('the frequencies of Llama 3.2 1B (head_dim 64, factor 32): all of them', () => {
    const expected = [
      1, 0.663601279258728, 0.44036662578582764, 0.2922278344631195, 0.193922758102417, 0.12868738174438477,
      0.08539710193872452, 0.05666961893439293, 0.03760603070259094, 0.02495540864765644, 0.016560440883040428,
      0.010989529080688953, 0.00729266507551074, 0.00483942124992609, 0.0032114461064338684, 0.0012905480107292533,
      0.000429556705057621, 9.708286233944818e-5, 1.9461638657958247e-5, 1.291476746700937e-5, 8.570255886297673e-6,
      5.687232260243036e-6, 3.7740544485131977e-6, 2.504467147446121e-6, 1.6619674170215148e-6, 1.1028836297555245e-6,
      7.318749339901842e-7, 4.856731266045244e-7, 3.2229328894572973e-7, 2.1387423032592778e-7, 1.4192720243499934e-7,
      9.418306490260875e-8,
    ];
    const frequencies = llama31(32, 64);
    const ratios = frequencies.map((frequency, i) => frequency / expected[i]!);
    expect(greatestDifference(ratios, new Float64Array(32).fill(1))).toBeLessThan(1e-5);
  });
});

// LlamaRotaryEmbedding of transformers 5.24 with head_dim 8 and rope_theta 10000: cos at position 17, sin at 1000.
test('the tables are those of transformers', () => {
  const rotary = new Rotary({ theta: 10_000, partialRotaryFactor: 1, interleaved: false, scaling: null }, 8);
  const cosine = [-0.27516335248947144, -0.12884454429149628, 0.9855847954750061, 0.9998555183410645];
  const sine = [0.8268795609474182, -0.5063656568527222, -0.5440211296081543, 0.8414709568023682];
  scope(() => {
    const table = rotaryTable(rotary.angles(Int32Array.of(0, 17, 1000)));
    const row = (tensor: typeof table.cosine, position: number) => {
      return toFloat32Array(tensor).subarray(8 * position, 8 * (position + 1));
    };
    const negative = sine.map((value) => -value);
    expect(greatestDifference(row(table.cosine, 1), [...cosine, ...cosine])).toBeLessThan(1e-6);
    expect(greatestDifference(row(table.sine, 2), [...negative, ...sine])).toBeLessThan(1e-6);
    expect(greatestDifference(row(table.inverseSine, 2), [...sine, ...negative])).toBeLessThan(1e-6);
    expect(greatestDifference(row(table.cosine, 0), new Float32Array(8).fill(1))).toBe(0);
  });
});
