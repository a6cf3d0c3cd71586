import { gather } from '../layout.js';
import type { Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';

/** The first positions of a row, which are judged together. A query sees few keys there, so that its numbers differ most in size. */
const FIRST_POSITIONS = 8;

/**
 * The results of attention, cut by the position of their token in its row: positions 0 to 7, 8 to 15, 16 to 31, and so on, each part twice
 * as long as the one before. Numbers shrink with the position, as weights do: those of token i have a root mean square of about
 * 1 / √i. Within a part it changes by less than half, so that the tolerance of a part suits each of its tokens.
 * @param x `[tokens, width]`
 * @param positions of each token in its row
 */
export function byPosition(name: string, x: Tensor, positions: readonly number[]): Record<string, Tensor> {
  const parts = new Map<number, number[]>();
  for (const [token, position] of positions.entries()) {
    const first = position < FIRST_POSITIONS ? 0 : 2 ** Math.floor(Math.log2(position));
    const own = parts.get(first);
    if (own === undefined) parts.set(first, [token]);
    else own.push(token);
  }
  const inOrder = [...parts].sort(([a], [b]) => a - b);
  return Object.fromEntries(
    inOrder.map(([first, tokens]) => {
      const last = (first === 0 ? FIRST_POSITIONS : 2 * first) - 1;
      return [
        `${name} at positions ${first} to ${last}`,
        gather(x, tensorOf(Int32Array.from(tokens), [tokens.length])),
      ];
    }),
  );
}

/** The position of each token in its row. */
export function positionsIn(lengths: readonly number[]): number[] {
  return lengths.flatMap((length) => [...Array(length).keys()]);
}
