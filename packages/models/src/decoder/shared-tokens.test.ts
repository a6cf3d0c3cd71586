import { chooseKernels, scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { expect, test } from 'vitest';
import { TESTED_KERNELS } from '../../../../test/usual-cases.js';
import { SharedTokens } from './shared-tokens.js';

// Two tokens in three rows, one in two, three in one.
const PLACES = Int32Array.of(3, 0, 5, 3, 0, 1, 3, 0, 4, 2, 4);
const TOKENS = 6;
const WIDTH = 5;

const numbers = (rows: number, seed: number) =>
  Float32Array.from({ length: rows * WIDTH }, (_, i) => Math.sin((i + 1) * seed));
const product = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

test.each(TESTED_KERNELS)('each gradient is that of its function, with %s kernels', (source) => {
  const kernels = chooseKernels(source);
  scope(() => {
    const shared = new SharedTokens(kernels, PLACES, TOKENS);
    const [ofStream, ofRows] = [numbers(TOKENS, 1.3), numbers(PLACES.length, 0.7)];
    const [stream, rows] = [tensorOf(ofStream, [TOKENS, WIDTH]), tensorOf(ofRows, [PLACES.length, WIDTH])];
    const inRows = toFloat32Array(shared.inRows(stream));
    expect(inRows).toEqual(
      Float32Array.from([...PLACES].flatMap((token) => [...ofStream.subarray(token * WIDTH, (token + 1) * WIDTH)])),
    );
    // Both functions are linear: the gradient is the transposed function.
    expect(product(toFloat32Array(shared.inRowsGradient(rows)), ofStream)).toBeCloseTo(product(ofRows, inRows), 5);
    const inStream = toFloat32Array(shared.inStream(rows));
    expect(product(toFloat32Array(shared.inStreamGradient(stream)), ofRows)).toBeCloseTo(
      product(ofStream, inStream),
      5,
    );
    expect(toFloat32Array(shared.inStream(shared.inRows(stream)))).toEqual(ofStream);
  });
});
