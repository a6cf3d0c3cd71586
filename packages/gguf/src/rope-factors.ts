/** The scaling of Llama 3.1 to 3.3 as `rope_scaling` has it. */
export interface Llama3Scaling {
  factor: number;
  low_freq_factor: number;
  high_freq_factor: number;
  original_max_position_embeddings: number;
}

/** Every Llama 3 release has these three; only the factor differs (8, or 32 for the small ones). */
const RELEASED = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };

/**
 * Finds the scaling that the `rope_freqs.weight` of a GGUF was computed from: the file holds only its result, by how much
 * each frequency is slowed.
 *
 * @param factors one for each pair of a head's dimensions: 1 for high frequencies, the scaling's factor for low ones
 * @returns null when no scaling of Llama 3 gives these factors
 */
export function inferLlama3Scaling(factors: Float32Array, theta: number): Llama3Scaling | null {
  const factor = factors.reduce((largest, value) => Math.max(largest, value), 0);
  const scaling = { factor, ...RELEASED };
  const expected = llama3Factors(scaling, theta, factors.length * 2);
  const agrees = factors.every((value, index) => Math.abs(value - expected[index]!) <= 1e-4 * expected[index]!);
  return Number.isFinite(factor) && factor >= 1 && agrees ? scaling : null;
}

/** By how much each frequency of a head is slowed; as in llama.cpp's convert_hf_to_gguf.py. */
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
