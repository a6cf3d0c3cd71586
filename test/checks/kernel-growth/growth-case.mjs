/**
 * An input of one size, and the kernels that it launches. Their work at twice the size is compared with that at the size.
 *
 * @typedef {object} GrowthCase
 * @property {string} name
 * @property {string} doubled the size that is doubled, such as `tokens`
 * @property {number} size large enough that a square would show: some hundreds
 * @property {(size: number) => void} run computes; its tensors are freed after it
 * @property {RegExp} [squares] names of kernels whose work may be a square of this size
 */

/** The most that work may grow when a size doubles: a little more than it, for the last blocks of a launch. */
export const MOST_GROWTH = { linear: 2.2, square: 4.4 };
/** The least growth that shows that a kernel's work depends on the size at all. */
export const LEAST_GROWTH = 1.5;
