import { add, multiply } from '../arithmetic.js';
import { elementType, execute } from '../execute.js';
import { concat, fill, gather, reshape, transpose } from '../layout.js';
import { scope, type Tensor } from '../tensor.js';
import { cast, tensorOf } from '../transfer.js';
import { rawActivation, rawActivationGradient } from './activation.js';
import type { TokenRows } from './token-rows.js';

// What the ops compute: see Kernels.

export function fusedCausalConvolution(x: Tensor, weight: Tensor, rows: TokenRows, before: Tensor | null): Tensor {
  return scope(() => {
    const inputs = [x, weight, rows.offsets, before ?? fill([0], 0, x.dtype)];
    return execute('LorasmithCausalConvolution', [elementType(x)], inputs);
  });
}

export function fusedCausalConvolutionGradient(gradient: Tensor, x: Tensor, weight: Tensor, rows: TokenRows): Tensor {
  return execute('LorasmithCausalConvolutionGradient', [elementType(x)], [gradient, x, weight, rows.offsets]);
}

export function rawCausalConvolution(x: Tensor, weight: Tensor, rows: TokenRows, before: Tensor | null): Tensor {
  return scope(() => cast(rawActivation(sums(x, weight, rows, before), 'silu'), x.dtype));
}

export function rawCausalConvolutionGradient(gradient: Tensor, x: Tensor, weight: Tensor, rows: TokenRows): Tensor {
  return scope(() => {
    const bySums = rawActivationGradient(cast(gradient, 'float32'), sums(x, weight, rows, null), 'silu');
    const [channels, taps] = weight.shape as [number, number];
    // A token was read by those that follow it in its row.
    const reads = (back: number) =>
      indicesOf(rows, (token, position, length) => (position + back < length ? token + back : -1));
    return cast(
      tapped(withZeros(bySums, channels), weight, (tap) => reads(taps - 1 - tap)),
      x.dtype,
    );
  });
}

/** The sums before the activation, `[tokens, channels]` float32. */
function sums(x: Tensor, weight: Tensor, rows: TokenRows, before: Tensor | null): Tensor {
  const [channels, taps] = weight.shape as [number, number];
  const exact = cast(x, 'float32');
  const earlier = before === null ? null : reshape(cast(before, 'float32'), [-1, channels]); // [rows x (taps - 1), channels]
  const source = withZeros(earlier === null ? exact : concat([exact, earlier], 0), channels);
  const tokens = x.shape[0]!;
  const reads = (back: number) =>
    indicesOf(rows, (token, position, _, row) => {
      if (position >= back) return token - back;
      return before === null ? -1 : tokens + row * (taps - 1) + (taps - 1) + position - back;
    });
  return tapped(source, weight, (tap) => reads(taps - 1 - tap));
}

/** A row of zeros before the others, so that index -1 + 1 reads zeros. */
function withZeros(x: Tensor, channels: number): Tensor {
  return concat([fill([1, channels], 0), x], 0);
}

/** The sum over taps of their weight times what each reads. */
function tapped(source: Tensor, weight: Tensor, reads: (tap: number) => Int32Array): Tensor {
  const taps = weight.shape[1]!;
  const byTap = transpose(weight, [1, 0]); // [taps, channels]
  const parts = Array.from({ length: taps }, (_, tap) => {
    const indices = reads(tap);
    const own = gather(byTap, tensorOf(Int32Array.of(tap), [1])); // [1, channels]
    return multiply(gather(source, tensorOf(indices, [indices.length])), own);
  });
  return parts.reduce((sum, part) => add(sum, part));
}

/** The index that each token reads, one up: 0 for -1. */
function indicesOf(
  { lengths }: TokenRows,
  read: (token: number, position: number, length: number, row: number) => number,
): Int32Array {
  let first = 0;
  const indices = lengths.flatMap((length, row) => {
    const own = Array.from({ length }, (_, position) => 1 + read(first + position, position, length, row));
    first += length;
    return own;
  });
  return Int32Array.from(indices);
}
