import { add, multiply } from '../arithmetic.js';
import { concat, roll } from '../layout.js';
import { dispose, scope, type Tensor } from '../tensor.js';
import { cast, constant } from '../transfer.js';

/** The angles by which positions turn pairs of dimensions (i, i + headDim / 2), `[positions, headDim / 2]` float32 each. */
export interface RotaryAngles {
  cosine: Tensor;
  sine: Tensor;
}

/** {@link RotaryAngles} as {@link rotate} needs them. */
export interface RotaryTable {
  /** `[positions, headDim]` */
  cosine: Tensor;
  /** `[positions, headDim]`, negative in the first half: the sign of the rotated half is in the table. */
  sine: Tensor;
  /** The sine of the opposite rotation. */
  inverseSine: Tensor;
}

export function rotaryTable({ cosine, sine }: RotaryAngles): RotaryTable {
  return scope(() => {
    const negative = multiply(sine, constant(-1));
    return {
      cosine: concat([cosine, cosine], 1),
      sine: concat([negative, sine], 1),
      inverseSine: concat([sine, negative], 1),
    };
  });
}

/**
 * Rotates pairs of dimensions (i, i + headDim / 2) by the angle of their position, in float32.
 * @param x `[…, positions, headDim]`
 * @param direction `inverse` is the gradient: a rotation's transpose
 * @returns the same shape and dtype
 */
export function rotate(x: Tensor, table: RotaryTable, direction: 'forward' | 'inverse'): Tensor {
  return scope(() => {
    const exact = cast(x, 'float32');
    const sine = direction === 'forward' ? table.sine : table.inverseSine;
    const halvesSwapped = roll(exact, exact.shape.at(-1)! / 2);
    const own = multiply(exact, table.cosine);
    if (exact !== x) exact.dispose();
    const others = multiply(halvesSwapped, sine);
    halvesSwapped.dispose();
    const rotated = add(own, others);
    dispose([own, others]);
    return cast(rotated, x.dtype);
  });
}
