import type { RotaryAngles } from '../src/kernels/rotary.js';
import { tensorOf } from '../src/transfer.js';

/** `[headDim / 2]`: the angle of each pair at position 1 (arXiv:2104.09864). */
export function frequenciesOf(headDim: number, theta: number): number[] {
  return Array.from({ length: headDim / 2 }, (_, pair) => theta ** ((-2 * pair) / headDim));
}

/** The angles of positions 0 … positions - 1. */
export function anglesOf(positions: number, headDim: number, theta = 10_000): RotaryAngles {
  const half = headDim / 2;
  const frequencies = frequenciesOf(headDim, theta);
  const table = (of: (angle: number) => number) =>
    tensorOf(
      Float32Array.from({ length: positions * half }, (_, i) => of(Math.floor(i / half) * frequencies[i % half]!)),
      [positions, half],
    );
  return { cosine: table(Math.cos), sine: table(Math.sin) };
}
