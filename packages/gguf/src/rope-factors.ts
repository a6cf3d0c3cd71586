/** The `rope_scaling` of Llama 3.1 to 3.3. */
export interface Llama3Scaling {
  factor: number;
  low_freq_factor: number;
  high_freq_factor: number;
  original_max_position_embeddings: number;
}

/** The same in every Llama 3 release. Only the factor differs: 8, or 32 for the small models. */
const RELEASED = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };

/**
 * Infers the scaling from the tensor `rope_freqs.weight`. A GGUF file stores only its result: the divisor of each frequency.
 *
 * @param factors one per pair of a head's dimensions: 1 for high frequencies, the scaling's factor for low ones
 * @returns null if no scaling of Llama 3 produces these factors
 */
export function inferLlama3Scaling(factors: Float32Array, theta: number): Llama3Scaling | null {
  const factor = factors.reduce((largest, value) => Math.max(largest, value), 0);
  const scaling = { factor, ...RELEASED };
  const expected = llama3Factors(scaling, theta, factors.length * 2);
  const agrees = factors.every((value, index) => Math.abs(value - expected[index]!) <= 1e-4 * expected[index]!);
  return Number.isFinite(factor) && factor >= 1 && agrees ? scaling : null;
}

/** The divisors of a head's frequencies, computed as in llama.cpp's convert_hf_to_gguf.py. */
export function llama3Factors(scaling: Llama3Scaling, theta: number, headDim: number): number[] {
  const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: positions } = scaling;
  return Array.from({ length: headDim / 2 }, (_, pair) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * pair) / headDim);
    if (wavelength < positions / high) return 1;
    if (wavelength > positions / low) return factor;
    const smooth = (positions / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}
