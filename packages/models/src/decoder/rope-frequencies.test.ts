import type { RopeScaling, RopeSettings } from '@lorasmith/model-folder';
import { describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { ropeRotation, rotatedDimensions, spanClass } from './rotary.js';

const rope = (scaling: RopeScaling | null, partialRotaryFactor = 1): RopeSettings => {
  return { theta: 1000, partialRotaryFactor, interleaved: false, scaling };
};
const dynamic: RopeScaling = { type: 'dynamic', factor: 3, maxPositions: 64 };
const longrope: RopeScaling = {
  type: 'longrope',
  shortFactors: [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5],
  longFactors: [2, 3, 4, 5, 6, 7, 8, 9],
  originalMaxPositions: 16,
  attentionFactor: 1.224744871391589,
};
const yarn = { type: 'yarn', betaFast: 32, betaSlow: 1, truncate: true } as const;

// ROPE_INIT_FUNCTIONS of transformers 5.24 for a head of 16 dimensions and rope_theta 1000, printed as float32 numbers.
describe('frequencies and magnitude are those of transformers', () => {
  test.each<[string, RopeScaling, number, number[], number]>([
    [
      'linear',
      { type: 'linear', factor: 2.5 },
      64,
      [
        0.4000000059604645, 0.16867861151695251, 0.07113117724657059, 0.029995765537023544, 0.012649111449718475,
        0.005334085784852505, 0.002249365206807852, 0.0009485495393164456,
      ],
      1,
    ],
    [
      'dynamic, within its positions',
      dynamic,
      64,
      [
        1, 0.4216965138912201, 0.17782793939113617, 0.07498941570520401, 0.03162277862429619, 0.01333521492779255,
        0.005623413249850273, 0.0023713738191872835,
      ],
      1,
    ],
    [
      'dynamic, beyond them',
      dynamic,
      100,
      [
        1, 0.36615461111068726, 0.13406918942928314, 0.049090053886175156, 0.017974548041820526, 0.006581463851034641,
        0.002409833250567317, 0.0008823716198094189,
      ],
      1,
    ],
    [
      'yarn',
      { ...yarn, factor: 4, originalMaxPositions: 16, attentionFactor: 1.138629436111989 },
      64,
      [
        1, 0.26356032490730286, 0.04445698484778404, 0.018747353926301003, 0.007905694656074047, 0.0033338037319481373,
        0.0014058533124625683, 0.0005928434547968209,
      ],
      1.138629436111989,
    ],
    [
      'yarn between dimensions',
      {
        ...yarn,
        factor: 8,
        originalMaxPositions: 48,
        betaFast: 3,
        betaSlow: 0.3,
        truncate: false,
        attentionFactor: 1.2079441541679836,
      },
      64,
      [
        1, 0.4216965138912201, 0.12429241836071014, 0.027807774022221565, 0.0039528473280370235, 0.0016669018659740686,
        0.0007029266562312841, 0.00029642172739841044,
      ],
      1.2079441541679836,
    ],
    [
      'longrope, within the original positions',
      longrope,
      16,
      [
        1, 0.28113099932670593, 0.08891396969556808, 0.029995769262313843, 0.010540924966335297, 0.0038100616075098515,
        0.0014058533124625683, 0.0005269719404168427,
      ],
      1.224744871391589,
    ],
    [
      'longrope, one beyond them',
      longrope,
      17,
      [
        0.5, 0.14056549966335297, 0.04445698484778404, 0.014997884631156921, 0.005270462483167648,
        0.0019050308037549257, 0.0007029266562312841, 0.00026348597020842135,
      ],
      1.224744871391589,
    ],
  ])('%s', (_, scaling, span, expected, magnitude) => {
    const rotation = ropeRotation(rope(scaling), 16, span);
    const ratios = rotation.frequencies.map((frequency, i) => frequency / expected[i]!);
    expect(greatestDifference(ratios, new Float64Array(8).fill(1))).toBeLessThan(1e-6);
    expect(rotation.magnitude).toBe(magnitude);
  });

  test('frequencies of a part of a head: an odd number of dimensions counts one up, and divides as it is', () => {
    // Phi3RotaryEmbedding with heads of 20 dimensions and partial_rotary_factor 0.55, which are 11 of them.
    const expected = [
      1, 0.284803569316864, 0.08111307770013809, 0.02310129441320896, 0.006579331122338772, 0.0018738169455900788,
    ];
    expect(rotatedDimensions(rope(null, 0.55), 20)).toBe(12);
    const { frequencies } = ropeRotation(rope(null, 0.55), 20, 1);
    const ratios = frequencies.map((frequency, i) => frequency / expected[i]!);
    expect(greatestDifference(ratios, new Float64Array(6).fill(1))).toBeLessThan(1e-6);
  });
});

test('spans of one class have one rotation, and only those', () => {
  const classes = (scaling: RopeScaling | null) =>
    [1, 16, 17, 64, 65, 66].map((span) => spanClass(rope(scaling), span));
  const distinct = (scaling: RopeScaling | null) => new Set(classes(scaling)).size;
  expect(distinct(null)).toBe(1);
  expect(distinct({ type: 'linear', factor: 2 })).toBe(1);
  expect(classes(longrope)).toEqual([0, 0, 1, 1, 1, 1]);
  expect(distinct(dynamic)).toBe(3);
});
