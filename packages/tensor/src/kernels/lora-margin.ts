/**
 * The products with frozen weights that an adapter alone in a pass is a part of, on the CUDA engine. `both`: the forward and the
 * backward product of each linear layer; `depth`: the one whose depth it lengthens. In the other one it would widen the result, which may
 * take one more column of tiles.
 */
export type LoraMargin = 'both' | 'depth';

/**
 * The value of GPU_LORA_MARGIN. @defaultValue `both`
 * @throws Error for any other value
 */
export function loraMarginOf(value: string | undefined): LoraMargin {
  if (value === undefined || value === '') return 'both';
  if (value === 'both' || value === 'depth') return value;
  throw new Error(`GPU_LORA_MARGIN is ${JSON.stringify(value)}; it can be "both" or "depth"`);
}
