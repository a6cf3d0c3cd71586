import type { AdapterManifest } from '@lorasmith/contracts';
import type { PeftAdapter, PeftModule } from './peft-adapter.js';

/** An adapter as it is written: one rank, and one scale `alpha / r` for every module. */
export interface CommonForm {
  r: number;
  alpha: number;
  /** All of rank `r`, all with the scale `alpha / r`. */
  modules: Map<string, PeftModule>;
}

/**
 * Puts every module on one rank and one scale, since vLLM and llama.cpp read nothing but `r` and `lora_alpha`. Lower
 * ranks are padded with zeros, which changes no result; another scale is folded into B.
 *
 * Multiplying by a power of two is exact in floating point. So the common scale is one that most numbers of B are a power
 * of two away from: where all scales are (alphas and ranks that are powers of two), no number is rounded; in each other
 * module, the entries of B are rounded once, to the nearest float32.
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

/** Bytes of the tensors that {@link commonForm} makes of modules with these ranks and sizes: float32, of the largest rank. */
export function commonFormBytes(modules: Iterable<Pick<PeftModule, 'rank' | 'inFeatures' | 'outFeatures'>>): number {
  let rank = 0;
  let features = 0;
  for (const module of modules) {
    rank = Math.max(rank, module.rank);
    features += module.inFeatures + module.outFeatures;
  }
  return Float32Array.BYTES_PER_ELEMENT * rank * features;
}

/** What the manifest says of an adapter written so: with it, {@link commonForm} can be undone. */
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

/** The alpha that gives this scale, without the noise of the division: 16 / 49 · 49 would be 15.999999999999998. */
function alphaOf(scale: number, rank: number): number {
  const short = Number((scale * rank).toPrecision(15));
  return short / rank === scale ? short : scale * rank;
}

/** The same update with another scale: B such that `scale · B A` does not change. */
export function withScale(module: PeftModule, scale: number): PeftModule {
  if (module.scale === scale) return module;
  const factor = module.scale / scale;
  return { ...module, scale, b: module.b.map((value) => value * factor) };
}

/**
 * The same module with rows of zeros added to A and columns of zeros to B: B A does not change, and readers that
 * ignore `rank_pattern` find the one rank they expect.
 */
export function padRank(module: PeftModule, rank: number): PeftModule {
  if (module.rank === rank) return module;
  const a = new Float32Array(rank * module.inFeatures);
  a.set(module.a);
  const b = new Float32Array(module.outFeatures * rank);
  for (let row = 0; row < module.outFeatures; row++) {
    b.set(module.b.subarray(row * module.rank, (row + 1) * module.rank), row * rank);
  }
  return { ...module, a, b, rank };
}

/** The opposite of {@link padRank}; null when what would be cut off is not all zero. */
export function cutRank(module: PeftModule, rank: number): PeftModule | null {
  if (module.rank === rank) return module;
  if (module.rank < rank) return null;
  const a = module.a.slice(0, rank * module.inFeatures);
  const b = new Float32Array(module.outFeatures * rank);
  for (let row = 0; row < module.outFeatures; row++) {
    b.set(module.b.subarray(row * module.rank, row * module.rank + rank), row * rank);
  }
  const cut = { ...module, a, b, rank };
  const again = padRank(cut, module.rank);
  const same = (x: Float32Array, y: Float32Array) => x.every((value, i) => value === y[i]);
  return same(again.a, module.a) && same(again.b, module.b) ? cut : null;
}

/** The scale with the most numbers of B a power of two away from it, and of those the one with the most of its own. */
function commonScale(modules: readonly PeftModule[]): number {
  const byScale = new Map<number, number>();
  for (const { scale, b } of modules) byScale.set(scale, (byScale.get(scale) ?? 0) + b.length);
  const all = [...byScale].map(([scale, numbers]) => ({ scale, numbers }));
  const exact = ({ scale }: { scale: number }) =>
    all.reduce((sum, other) => sum + (isPowerOfTwo(other.scale / scale) ? other.numbers : 0), 0);
  // A scale of 0 has no B for the others.
  const candidates = all.filter(({ scale }) => scale !== 0);
  const [best] = candidates.sort((one, other) => exact(other) - exact(one) || other.numbers - one.numbers);
  return best?.scale ?? 0;
}

function isPowerOfTwo(value: number): boolean {
  const exponent = Math.round(Math.log2(Math.abs(value)));
  return Math.abs(value) === 2 ** exponent;
}
