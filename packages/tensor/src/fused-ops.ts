import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { engine, type OpAttribute } from './binding.js';
import type { FloatDType } from './dtype.js';
import { elementType, execute, executeMany, floatAttribute, intAttribute, typeAttribute } from './execute.js';
import type { Tensor } from './tensor.js';

// The ops of native/, which do in one pass over memory what takes TensorFlow's own ops many. Each has a form in raw ops
// beside its use, for devices without them; both pass the same tests.

const BUILD_FOLDER = new URL('../native/build/', import.meta.url);

/** The variant that has products of its own. */
const BFLOAT16_PRODUCTS = 'avx512bf16';

const AVX512 = ['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'];

/** Best first, with the flags of /proc/cpuinfo that each needs. */
const VARIANTS: readonly { name: string; needs: readonly string[] }[] = [
  { name: BFLOAT16_PRODUCTS, needs: [...AVX512, 'avx512_bf16'] },
  { name: 'avx512', needs: AVX512 },
  { name: 'avx2', needs: ['avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'movbe'] },
  { name: 'generic', needs: [] },
];

const flags = processorFlags();

let loaded: string | null = null;
let enabled = false;

/**
 * Loads a library of fused ops into TensorFlow's registry, and uses it from now on. A process can load one.
 * @param variant the instruction set it is for; the best that the processor has when absent
 * @returns the instruction set of the library in use; null where there is none to use: on a GPU, or when it was not compiled
 */
export function useFusedOps(variant?: string): string | null {
  if (engine.onGpu) return null;
  loaded ??= load(variant);
  enabled = loaded !== null;
  return loaded;
}

/** Whether the processor has the instructions that a library of fused ops needs. */
export function processorRuns(variant: string): boolean {
  return VARIANTS.some(({ name, needs }) => name === variant && needs.every((flag) => flags.has(flag)));
}

/** Goes back to TensorFlow's own ops. */
export function useRawOps(): void {
  enabled = false;
}

export function fusedOpsEnabled(): boolean {
  return enabled;
}

/** Whose kernels do the work between matrix products: `tensorflow`, or the instruction set of the fused ops in use. */
export function kernelsInUse(): string {
  return enabled && loaded !== null ? loaded : 'tensorflow';
}

/** Fewer rows leave too little work for the packing of the second matrix. */
const PRODUCT_LEAST_ROWS = 32;

/**
 * Whether `fusedProduct` takes these matrices and is the faster way. It is not on a processor with AMX, whose tiles
 * TensorFlow's own product uses.
 */
export function productIsFused(a: Tensor, b: Tensor, transposeB: boolean): boolean {
  if (!enabled || loaded !== BFLOAT16_PRODUCTS || flags.has('amx_bf16') || a.dtype !== 'bfloat16') return false;
  const [rows = 0, depth = 0] = a.shape;
  const columns = b.shape[transposeB ? 0 : 1] ?? 0;
  return rows >= PRODUCT_LEAST_ROWS && depth > 0 && depth % 2 === 0 && columns > 0 && columns % 32 === 0;
}

/**
 * @param a `[rows, depth]`
 * @param b `[depth, columns]`, or `[columns, depth]` with `transposeB`
 * @param addend `[rows, columns]`, added before the product is rounded
 * @returns `[rows, columns]`
 */
export function fusedProduct(a: Tensor, b: Tensor, transposeB: boolean, addend?: Tensor): Tensor {
  const attributes = [elementType(a), intAttribute('transpose_b', Number(transposeB))];
  return addend === undefined
    ? execute('LorasmithProduct', attributes, [a, b])
    : execute('LorasmithProductAdd', attributes, [a, b, addend]);
}

function load(variant: string | undefined): string | null {
  for (const { name } of VARIANTS) {
    const file = fileURLToPath(new URL(`${name}.node`, BUILD_FOLDER));
    if ((variant ?? name) !== name || !processorRuns(name) || !existsSync(file)) continue;
    createRequire(import.meta.url)(file);
    return name;
  }
  return null;
}

function processorFlags(): Set<string> {
  try {
    const line = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
    return new Set(line?.[1]?.trim().split(/\s+/));
  } catch {
    return new Set();
  }
}

const attentionAttributes = (qkv: Tensor, settings: AttentionSettings): OpAttribute[] => [
  elementType(qkv),
  intAttribute('heads', settings.heads),
  intAttribute('key_value_heads', settings.keyValueHeads),
  intAttribute('window', settings.window ?? 0),
  floatAttribute('scale', settings.scale),
  floatAttribute('softcap', settings.softcap ?? 0),
];

/** See rmsNorm in models. @returns `[tokens, hidden]` in `dtype`, and `[tokens, 1]` 1/rms */
export function fusedRmsNorm(x: Tensor, weight: Tensor, epsilon: number, dtype: FloatDType): [Tensor, Tensor] {
  const attributes = [typeAttribute('T', dtype), floatAttribute('epsilon', epsilon)];
  return executeMany('LorasmithRmsNorm', attributes, [x, weight], 2) as [Tensor, Tensor];
}

/** @returns x + branch `[tokens, hidden]` float32, its norm in the dtype of `branch`, and 1/rms */
export function fusedAddRmsNorm(x: Tensor, branch: Tensor, weight: Tensor, epsilon: number): [Tensor, Tensor, Tensor] {
  const attributes = [elementType(branch), floatAttribute('epsilon', epsilon)];
  return executeMany('LorasmithAddRmsNorm', attributes, [x, branch, weight], 3) as [Tensor, Tensor, Tensor];
}

/** @returns residual + the norm's gradient `[tokens, hidden]`, in float32 and in the dtype of `gradient` */
export function fusedRmsNormGradient(
  gradient: Tensor,
  x: Tensor,
  weight: Tensor,
  inverseRms: Tensor,
  residual: Tensor,
): [Tensor, Tensor] {
  const inputs = [gradient, x, weight, inverseRms, residual];
  return executeMany('LorasmithRmsNormGradient', [elementType(gradient)], inputs, 2) as [Tensor, Tensor];
}

export function fusedSwiGlu(gateUp: Tensor): Tensor {
  return execute('LorasmithSwiGlu', [elementType(gateUp)], [gateUp]);
}

export function fusedSwiGluGradient(gradient: Tensor, gateUp: Tensor): Tensor {
  return execute('LorasmithSwiGluGradient', [elementType(gateUp)], [gradient, gateUp]);
}

export interface FusedAttentionInputs {
  /** `[tokens, (heads + 2 × keyValueHeads) × headDim]` */
  qkv: Tensor;
  /** `[rows + 1]` int32: where each row begins in the stream, and where the last ends */
  offsets: Tensor;
  /** `[positions, headDim / 2]` float32 */
  cosine: Tensor;
  sine: Tensor;
}

/** What attention is, in one layer. */
export interface AttentionSettings {
  /** Of queries. */
  heads: number;
  /** Divides `heads`. */
  keyValueHeads: number;
  headDim: number;
  /** Of the scores. */
  scale: number;
  /** Query i sees keys j with i - window < j ≤ i; null: all j ≤ i. */
  window: number | null;
  /** A scaled score s becomes softcap · tanh(s / softcap); null: stays. */
  softcap: number | null;
}

/** @returns `[tokens, heads × headDim]`, and the logarithm of each query's sum `[tokens, heads]` float32 */
export function fusedAttention(inputs: FusedAttentionInputs, settings: AttentionSettings): [Tensor, Tensor] {
  const { qkv, offsets, cosine, sine } = inputs;
  return executeMany('LorasmithAttention', attentionAttributes(qkv, settings), [qkv, offsets, cosine, sine], 2) as [
    Tensor,
    Tensor,
  ];
}

/** @returns gradient by qkv */
export function fusedAttentionGradient(
  gradient: Tensor,
  inputs: FusedAttentionInputs,
  output: Tensor,
  logSums: Tensor,
  settings: AttentionSettings,
): Tensor {
  const { qkv, offsets, cosine, sine } = inputs;
  const tensors = [gradient, qkv, output, logSums, offsets, cosine, sine];
  return execute('LorasmithAttentionGradient', attentionAttributes(qkv, settings), tensors);
}

/** @returns loss `[n]` float32, and its gradient `[n, classes]` in the dtype of the logits */
export function fusedCrossEntropy(logits: Tensor, labels: Tensor): [Tensor, Tensor] {
  return executeMany('LorasmithCrossEntropy', [elementType(logits)], [logits, labels], 2) as [Tensor, Tensor];
}
