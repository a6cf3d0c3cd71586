/**
 * The exponential moving average of a line, as TensorBoard's: without a bias to the first values.
 * @param weight of what came before, from 0 (the values themselves) to below 1
 */
export function smoothed(values: readonly number[], weight: number): number[] {
  let average = 0;
  let total = 0;
  return values.map((value) => {
    average = weight * average + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return average / total;
  });
}
