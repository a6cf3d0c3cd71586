import { cpus, totalmem } from 'node:os';
import type { MachineProfile, MachineRates } from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import type { DecoderArchitecture, ModelFolder } from '@lorasmith/model-folder';
import { type Decoder, loadDecoder, type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import { type DecoderWork, stepWork } from '@lorasmith/planning';
import { dispose, engine, type FloatDType, kernelsInUse } from '@lorasmith/tensor';
import { NextToken } from '../objectives/next-token/next-token.js';
import { attentionRate, matMulRate, PRODUCT, passRate, waitForGpu } from './kernel-rates.js';
import { withProbeModel } from './probe-model.js';
import { steadySeconds } from './steady-seconds.js';

/** A realistic batch: rows as long as many conversations. A step that starts threads and selects kernels comes first. */
const FULL = { rows: 8, length: 192, warmUps: 1, repeats: 3 };
/** So small that its time is the cost of calling the ops, which halves while V8 compiles what calls them. */
const TINY = { rows: 1, length: 8, warmUps: 20, repeats: 15 };

/** The shapes measured on a GPU, which small ones do not fill: those of a model of 7 to 8 billion parameters. */
const ON_GPU = {
  full: {
    product: { tokens: 4096, inFeatures: 4096, outFeatures: 4096 },
    attention: { rows: 4, length: 1024, heads: 32, keyValueHeads: 8, headDim: 128 },
    passCount: 2 ** 26,
  },
  /** The small sizes for an emulated GPU. */
  small: {
    product: { tokens: 64, inFeatures: 64, outFeatures: 64 },
    attention: { rows: 1, length: 16, heads: 2, keyValueHeads: 1, headDim: 64 },
    passCount: 2 ** 10,
  },
};

export interface MeasureOptions {
  /** False for a GPU whose compute capability is below 8.0: then nothing is tried in bfloat16. @defaultValue true */
  hasBfloat16?: boolean;
  /** @defaultValue full */
  sizes?: 'small' | 'full';
}
const RANK = 8;

/**
 * Measures the speed of this machine in a few seconds: matrix products and attention by themselves, and a whole training
 * step of a small model. What remains of the step is the time of the passes over memory between them.
 */
export async function measureMachine({
  hasBfloat16 = true,
  sizes = 'full',
}: MeasureOptions = {}): Promise<Omit<MachineProfile, 'worker' | 'measured_at' | 'engine'>> {
  const baseMemoryBytes = process.memoryUsage.rss();
  const rates = await withProbeModel(
    async (folder) => ({
      float32: await measureRates(folder, 'float32', sizes),
      bfloat16: hasBfloat16 ? await measureRates(folder, 'bfloat16', sizes) : null,
    }),
    sizes === 'small' ? 'tiny' : 'realistic',
  );
  const [processor] = cpus();
  return {
    processor: `${processor?.model.trim() ?? 'unknown'}, ${cpus().length} cores, kernels: ${kernelsInUse()}`,
    kernels: kernelsInUse(),
    memory_bytes: memoryForTrainer(),
    base_memory_bytes: baseMemoryBytes,
    rates,
  };
}

/** The container's limit, or the machine's memory where there is none. */
function memoryForTrainer(): number {
  const limit = process.constrainedMemory();
  return limit > 0 && limit < totalmem() ? limit : totalmem();
}

async function measureRates(
  folder: ModelFolder,
  precision: FloatDType,
  sizes: 'small' | 'full',
): Promise<MachineRates> {
  const decoder = await loadDecoder(folder, precision);
  const targets = folder.modules
    .filter(({ name }) => /[qv]_proj$/.test(name))
    .map((layer) => ({ ...layer, rank: RANK, scale: 1 }));
  const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0 });
  try {
    const tinySeconds = stepSeconds(decoder, adapter, TINY);
    const layer_overhead_ms = (1e3 * tinySeconds) / decoder.architecture.layerCount;
    if (engine.device === 'gpu') return { ...gpuRates(precision, sizes), layer_overhead_ms };
    const fullSeconds = stepSeconds(decoder, adapter, FULL);
    const architecture = folder.architecture as DecoderArchitecture;
    const { headCount: heads, keyValueHeadCount: keyValueHeads, headDim } = architecture;
    const { inFeatures, outFeatures } = PRODUCT;
    const matmul = matMulRate(precision, { tokens: FULL.rows * FULL.length, inFeatures, outFeatures });
    const attention = attentionRate(precision, { ...FULL, heads, keyValueHeads, headDim });
    const work: DecoderWork = { architecture, modules: folder.modules, targets, recomputedLayers: 0 };
    const { products, attention: scores, passes } = stepWork(work, loadOf(FULL));
    const passSeconds = fullSeconds - tinySeconds - products / matmul - scores / attention;
    return {
      matmul_gflops: matmul,
      attention_gflops: attention,
      // If the parts alone take as long as the whole step, assume a small share: passes are never faster than a copy.
      pass_gbytes: passes / Math.max(passSeconds, 0.02 * fullSeconds),
      layer_overhead_ms,
    };
  } finally {
    adapter.dispose();
    decoder.dispose();
  }
}

/** Each by itself: the step of a small model is bound by the calls, so its passes cannot be told from them. */
function gpuRates(precision: FloatDType, sizes: 'small' | 'full'): Omit<MachineRates, 'layer_overhead_ms'> {
  const { product, attention, passCount } = ON_GPU[sizes];
  return {
    matmul_gflops: matMulRate(precision, product),
    attention_gflops: attentionRate(precision, attention),
    pass_gbytes: passRate(precision, passCount),
  };
}

function loadOf({ rows, length }: Pick<typeof FULL, 'rows' | 'length'>) {
  const tokens = rows * length;
  return {
    tokensPerStep: tokens,
    labelsPerStep: tokens - rows,
    squaresPerStep: rows * length ** 2,
    microBatchesPerStep: 1,
  };
}

/** The time of a step in a trainer that has made many. */
function stepSeconds(decoder: Decoder, adapter: LoraAdapter, size: typeof FULL): number {
  const batch = batchOf(size, decoder.architecture.vocabSize);
  const objective = new NextToken(decoder);
  return steadySeconds(() => {
    const { losses, correct } = objective.lossAndGradients(batch, { adapters: [{ adapter }] });
    dispose([losses, correct]);
    const gradient = adapter.takeGradient();
    waitForGpu(gradient);
    gradient.dispose();
  }, size);
}

function batchOf({ rows, length }: Pick<typeof FULL, 'rows' | 'length'>, vocabSize: number): TokenBatch {
  return tokenBatchOf(
    Array.from({ length: rows }, (_, row) => ({
      ids: Int32Array.from({ length }, (_, i) => (row * 31 + i * 17) % vocabSize),
      trained: new Uint8Array(length).fill(1),
    })),
  );
}
