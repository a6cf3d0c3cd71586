import type { AdapterManifest } from '@lorasmith/contracts';
import type { PeftAdapter, PeftModule, PeftSizes } from './peft-adapter.js';

/** An adapter in the form in which it is written: all modules have the same rank and the same scale `alpha / r`. */
export interface CommonForm {
  r: number;
  alpha: number;
  /** All with rank `r` and scale `alpha / r`. */
  modules: Map<string, PeftModule>;
}

/**
 * Converts all modules to the same rank and scale, since vLLM and llama.cpp read only `r` and `lora_alpha`. Lower ranks are
 * padded with zeros, which changes no result. Different scales are folded into B.
 *
 * In floating point, multiplication by a power of two is exact. So the common scale is the one for which most numbers of B are
 * only multiplied by a power of two. If all alphas and ranks are powers of two, no number is rounded. In every other module,
 * the numbers of B are rounded once, to the nearest float32.
 *
 * @throws RangeError when the adapter has no modules
 */
export function commonForm(adapter: PeftAdapter): CommonForm {
  const r = Math.max(...[...adapter.modules.values()].map(({ rank }) => rank));
  const scale = commonScale([...adapter.modules.values()]);
  const modules = new Map<string, PeftModule>();
  for (const [name, module] of adapter.modules) modules.set(name, padRank(withScale(module, scale), r));
  return { r, alpha: alphaOf(scale, r), modules };
}

/** The size of the tensors of {@link commonForm} for modules with these ranks and sizes: float32, with the largest rank. */
export function commonFormBytes(modules: Iterable<PeftSizes>): number {
  let rank = 0;
  let features = 0;
  for (const module of modules) {
    rank = Math.max(rank, module.rank);
    features += (module.experts ?? 1) * (module.inFeatures + module.outFeatures);
  }
  return Float32Array.BYTES_PER_ELEMENT * rank * features;
}

/** The manifest's description of the adapter, from which {@link commonForm} can be reversed. */
export function manifestLora(adapter: PeftAdapter, { r, alpha }: CommonForm): AdapterManifest['lora'] {
  const modules = [...adapter.modules];
  const alphas = modules.map(([name, { rank, scale }]) => [name, alphaOf(scale, rank)] as const);
  return {
    r,
    alpha,
    modules: modules.map(([name]) => name),
    rank_pattern: Object.fromEntries(modules.flatMap(([name, { rank }]) => (rank === r ? [] : [[name, rank]]))),
    alpha_pattern: Object.fromEntries(alphas.filter(([, own]) => own !== alpha)),
  };
}

/** The alpha of this scale, without the rounding error of the division: (16 / 49) · 49 is 15.999999999999998. */
function alphaOf(scale: number, rank: number): number {
  const rounded = Number((scale * rank).toPrecision(15));
  return rounded / rank === scale ? rounded : scale * rank;
}

/** Changes the scale, and multiplies B so that `scale · B A` stays the same. */
export function withScale(module: PeftModule, scale: number): PeftModule {
  if (module.scale === scale) return module;
  const factor = module.scale / scale;
  return { ...module, scale, b: module.b.map((value) => value * factor) };
}

/**
 * Adds rows of zeros to A and columns of zeros to B, of each expert. B A stays the same, and readers that ignore `rank_pattern` find
 * the same rank in every module.
 */
export function padRank(module: PeftModule, rank: number): PeftModule {
  return module.rank === rank ? module : withRank(module, rank);
}

/** The inverse of {@link padRank}; null if the removed numbers are not all zero. */
export function cutRank(module: PeftModule, rank: number): PeftModule | null {
  if (module.rank === rank) return module;
  if (module.rank < rank) return null;
  const cut = withRank(module, rank);
  const padded = padRank(cut, module.rank);
  const same = (x: Float32Array, y: Float32Array) => x.every((value, i) => value === y[i]);
  return same(padded.a, module.a) && same(padded.b, module.b) ? cut : null;
}

/** The first rows of A and columns of B, or all of them with zeros behind them. */
function withRank(module: PeftModule, rank: number): PeftModule {
  const { experts = 1, inFeatures, outFeatures } = module;
  // A and B as matrices with a row for each expert, and for each expert and output.
  const a = withWidth(module.a, { rows: experts, from: module.rank * inFeatures, to: rank * inFeatures });
  const b = withWidth(module.b, { rows: experts * outFeatures, from: module.rank, to: rank });
  return { ...module, a, b, rank };
}

/** The rows of a matrix, cut or padded with zeros. */
function withWidth(values: Float32Array, { rows, from, to }: { rows: number; from: number; to: number }): Float32Array {
  const result = new Float32Array(rows * to);
  const kept = Math.min(from, to);
  for (let row = 0; row < rows; row++) result.set(values.subarray(row * from, row * from + kept), row * to);
  return result;
}

/** The scale for which most numbers of B change by a power of two. For ties, the one with the most numbers unchanged. */
function commonScale(modules: readonly PeftModule[]): number {
  const byScale = new Map<number, number>();
  for (const { scale, b } of modules) byScale.set(scale, (byScale.get(scale) ?? 0) + b.length);
  const all = [...byScale].map(([scale, numbers]) => ({ scale, numbers }));
  const exact = ({ scale }: { scale: number }) =>
    all.reduce((sum, other) => sum + (isPowerOfTwo(other.scale / scale) ? other.numbers : 0), 0);
  // With a scale of 0, no B would give the other modules' updates.
  const candidates = all.filter(({ scale }) => scale !== 0);
  const [best] = candidates.sort((one, other) => exact(other) - exact(one) || other.numbers - one.numbers);
  return best?.scale ?? 0;
}

function isPowerOfTwo(value: number): boolean {
  const exponent = Math.round(Math.log2(Math.abs(value)));
  return Math.abs(value) === 2 ** exponent;
}
