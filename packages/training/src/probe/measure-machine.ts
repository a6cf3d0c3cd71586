import { cpus, totalmem } from 'node:os';
import type { MachineProfile, MachineRates } from '@lorasmith/contracts';
import { LoraAdapter } from '@lorasmith/lora';
import type { DecoderArchitecture, ModelFolder } from '@lorasmith/model-folder';
import { type Decoder, loadDecoder, type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import { type DecoderWork, stepWork } from '@lorasmith/planning';
import { type FloatDType, kernelsInUse } from '@lorasmith/tensor';
import { NextToken } from '../objectives/next-token/next-token.js';
import { attentionRate, matMulRate } from './kernel-rates.js';
import { withProbeModel } from './probe-model.js';

/** A realistic batch: rows as long as many conversations. */
const FULL = { rows: 8, length: 192 };
/** So small that its time is the cost of calling the ops. */
const TINY = { rows: 1, length: 8 };
const REPEATS = 3;
const RANK = 8;

/**
 * Measures the speed of this machine in a few seconds: matrix products and attention by themselves, and a whole training
 * step of a small model. What remains of the step is the time of the passes over memory between them.
 * @param options `hasBfloat16`: false for a GPU whose compute capability is below 8.0; then nothing is tried in it
 */
export async function measureMachine({
  hasBfloat16 = true,
}: {
  hasBfloat16?: boolean;
} = {}): Promise<Omit<MachineProfile, 'worker' | 'measured_at' | 'engine'>> {
  const baseMemoryBytes = process.memoryUsage.rss();
  const rates = await withProbeModel(async (folder) => ({
    float32: await measureRates(folder, 'float32'),
    bfloat16: hasBfloat16 ? await measureRates(folder, 'bfloat16') : null,
  }));
  const [processor] = cpus();
  return {
    processor: `${processor?.model.trim() ?? 'unknown'}, ${cpus().length} cores, kernels: ${kernelsInUse()}`,
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

async function measureRates(folder: ModelFolder, precision: FloatDType): Promise<MachineRates> {
  const decoder = await loadDecoder(folder, precision);
  const targets = folder.modules
    .filter(({ name }) => /[qv]_proj$/.test(name))
    .map((layer) => ({ ...layer, rank: RANK, scale: 1 }));
  const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0 });
  try {
    const tinySeconds = stepSeconds(decoder, adapter, TINY);
    const fullSeconds = stepSeconds(decoder, adapter, FULL);
    const matmul = matMulRate(precision, FULL.rows * FULL.length);
    const attention = attentionRate(decoder, FULL);
    const architecture = folder.architecture as DecoderArchitecture;
    const work: DecoderWork = { architecture, modules: folder.modules, targets, recompute: false };
    const { products, attention: scores, passes } = stepWork(work, loadOf(FULL));
    const passSeconds = fullSeconds - tinySeconds - products / matmul - scores / attention;
    return {
      matmul_gflops: matmul,
      attention_gflops: attention,
      // If the parts alone take as long as the whole step, assume a small share: passes are never faster than a copy.
      pass_gbytes: passes / Math.max(passSeconds, 0.02 * fullSeconds),
      layer_overhead_ms: (1e3 * tinySeconds) / architecture.layerCount,
    };
  } finally {
    adapter.dispose();
    decoder.dispose();
  }
}

function loadOf({ rows, length }: typeof FULL) {
  const tokens = rows * length;
  return {
    tokensPerStep: tokens,
    labelsPerStep: tokens - rows,
    squaresPerStep: rows * length ** 2,
    microBatchesPerStep: 1,
  };
}

/** The median of several steps, after one that starts threads and selects kernels. */
function stepSeconds(decoder: Decoder, adapter: LoraAdapter, size: typeof FULL): number {
  const batch = batchOf(size, decoder.architecture.vocabSize);
  const objective = new NextToken(decoder);
  const seconds: number[] = [];
  for (let repeat = 0; repeat <= REPEATS; repeat++) {
    const start = process.hrtime.bigint();
    objective.lossAndGradients(batch, { adapters: [{ adapter }] }).losses.dispose();
    adapter.takeGradient().dispose();
    if (repeat > 0) seconds.push(Number(process.hrtime.bigint() - start) / 1e9);
  }
  return seconds.sort((a, b) => a - b)[Math.floor(REPEATS / 2)]!;
}

function batchOf({ rows, length }: typeof FULL, vocabSize: number): TokenBatch {
  return tokenBatchOf(
    Array.from({ length: rows }, (_, row) => ({
      ids: Int32Array.from({ length }, (_, i) => (row * 31 + i * 17) % vocabSize),
      trained: new Uint8Array(length).fill(1),
    })),
  );
}
