/** The types of 4 bits in which bitsandbytes has weights. */
export const FOUR_BIT_TYPES = ['nf4', 'fp4'] as const;
export type FourBitType = (typeof FOUR_BIT_TYPES)[number];

/** The types of quantized weights, as the API names them. */
export type QuantizedType = FourBitType | 'fp8' | 'mxfp4';
