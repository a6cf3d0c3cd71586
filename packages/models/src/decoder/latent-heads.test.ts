import { liveTensorCount, scope, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { LatentHeads } from './latent-heads.js';

const TOKENS = 3;
/** Values that are narrower than keys, wider, and as wide; heads whose number is odd, and one alone. */
const CASES = [
  { heads: 4, plainDim: 6, rotaryDim: 4, valueDim: 5, headDim: 12, interleaved: true },
  { heads: 5, plainDim: 3, rotaryDim: 4, valueDim: 14, headDim: 16, interleaved: false },
  { heads: 1, plainDim: 4, rotaryDim: 4, valueDim: 8, headDim: 8, interleaved: true },
];

describe.each(CASES)('heads of $plainDim + $rotaryDim numbers with values of $valueDim', (one) => {
  const { heads, plainDim, rotaryDim, valueDim, headDim, interleaved } = one;
  const layout = new LatentHeads({ plainDim, rotaryDim, valueDim }, { heads, headDim, interleaved });
  const widths = {
    query: heads * (plainDim + rotaryDim),
    keyValue: heads * (plainDim + valueDim),
    turnedKey: rotaryDim,
  };
  const numbers = {
    query: normalNumbers(TOKENS * widths.query, 1),
    keyValue: normalNumbers(TOKENS * widths.keyValue, 2),
    turnedKey: normalNumbers(TOKENS * widths.turnedKey, 3),
  };
  const partsOf = () => ({
    query: tensorOf(numbers.query, [TOKENS, widths.query]),
    keyValue: tensorOf(numbers.keyValue, [TOKENS, widths.keyValue]),
    turnedKey: tensorOf(numbers.turnedKey, [TOKENS, widths.turnedKey]),
  });
  const joined = () => scope(() => toFloat32Array(layout.joined(partsOf())));

  test('pairs that turn are half a head apart, and the rest is in its order with zeros behind it', () => {
    const half = headDim / 2;
    const expected: number[] = [];
    /** A query or key of its plain numbers and of those that turn. */
    const laid = (plain: Float32Array, turned: Float32Array) => {
      const head = new Array(headDim).fill(0);
      for (let pair = 0; pair < rotaryDim / 2; pair++) {
        const [a, b] = interleaved ? [2 * pair, 2 * pair + 1] : [pair, pair + rotaryDim / 2];
        head[pair] = turned[a];
        head[half + pair] = turned[b];
      }
      const others = head.map((_, i) => i).filter((i) => i % half >= rotaryDim / 2);
      for (const [i, number] of plain.entries()) head[others[i]!] = number;
      return head;
    };
    for (let token = 0; token < TOKENS; token++) {
      const row = (name: keyof typeof widths) =>
        numbers[name].subarray(token * widths[name], (token + 1) * widths[name]);
      const queries = Array.from({ length: heads }, (_, head) => {
        const query = row('query').subarray(head * (plainDim + rotaryDim), (head + 1) * (plainDim + rotaryDim));
        return laid(query.subarray(0, plainDim), query.subarray(plainDim));
      });
      const ofKeys = Array.from({ length: heads }, (_, head) =>
        row('keyValue').subarray(head * (plainDim + valueDim), (head + 1) * (plainDim + valueDim)),
      );
      const keys = ofKeys.map((keyValue) => laid(keyValue.subarray(0, plainDim), row('turnedKey')));
      const values = ofKeys.map((keyValue) => [
        ...keyValue.subarray(plainDim),
        ...new Array(headDim - valueDim).fill(0),
      ]);
      expected.push(...[...queries, ...keys, ...values].flat());
    }
    expect([...joined()]).toEqual(expected);
  });

  test('the gradient is the transpose: ⟨joined(x), g⟩ = ⟨x, parted(g)⟩', () => {
    const g = normalNumbers(TOKENS * 3 * heads * headDim, 4);
    const by = scope(() => {
      const { query, keyValue, turnedKey } = layout.parted(tensorOf(g, [TOKENS, 3 * heads * headDim]));
      return [query, keyValue, turnedKey].map((part) => toFloat32Array(part));
    });
    const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, number, i) => sum + number * b[i]!, 0);
    const x = [numbers.query, numbers.keyValue, numbers.turnedKey];
    expect(x.reduce((sum, part, i) => sum + dot(part, by[i]!), 0)).toBeCloseTo(dot(joined(), g), 3);
    // Of single numbers, too: that of the turned key is summed over all heads.
    const step = (name: keyof typeof numbers, index: number) => {
      numbers[name][index]! += 1;
      const after = joined();
      numbers[name][index]! -= 1;
      return dot(after, g) - dot(joined(), g);
    };
    for (const [part, name] of (['query', 'keyValue', 'turnedKey'] as const).entries()) {
      for (const index of [0, 1, numbers[name].length - 1]) expect(by[part]![index]).toBeCloseTo(step(name, index), 2);
    }
  });

  test('what attention gives behind values is left out, and has a gradient of 0', () => {
    const attended = normalNumbers(TOKENS * heads * headDim, 5);
    const change = (tensor: (own: Tensor) => Tensor, of: Float32Array<ArrayBuffer>) =>
      scope(() => toFloat32Array(tensor(tensorOf(of, [TOKENS, of.length / TOKENS]))));
    const values = change((own) => layout.values(own), attended);
    expect([...values]).toEqual([...attended].filter((_, i) => i % headDim < valueDim));
    const widened = change((own) => layout.widenedValues(own), Float32Array.from(values));
    expect(
      greatestDifference(
        widened,
        attended.map((number, i) => (i % headDim < valueDim ? number : 0)),
      ),
    ).toBe(0);
  });

  test('leaves nothing alive', () => {
    joined();
    const before = liveTensorCount();
    joined();
    expect(liveTensorCount()).toBe(before);
  });
});
