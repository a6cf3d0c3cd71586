import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import type { MachineProfile, MachineRates } from '@lorasmith/contracts';
import { type DecoderArchitecture, LOGITS_PER_CHUNK, type ModelFolder, readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, LoraAdapter, loadDecoder, type TokenBatch, tokenBatchOf } from '@lorasmith/models';
import { stepWork, weightGigabytes, weightTraffic } from '@lorasmith/planning';
import { dispose, engine, type FloatDType, type KernelSet } from '@lorasmith/tensor';
import { writeSafetensors } from '@lorasmith/weight-files';
import { NextToken } from '../objectives/next-token/next-token.js';
import { attentionRate, PRODUCT, passRate, productRates, steadySeconds, waitForGpu } from './kernel-rates.js';

const LLAMA = { model_type: 'llama', max_position_embeddings: 1024, tie_word_embeddings: true };

/** `realistic`: a small llama in the proportions of real ones. `tiny`: for the emulation of a GPU. */
const CONFIGS = {
  realistic: {
    ...LLAMA,
    hidden_size: 512,
    intermediate_size: 1408,
    num_hidden_layers: 3,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    vocab_size: 2048,
  },
  tiny: {
    ...LLAMA,
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 128,
  },
};

export type ProbeModelSize = keyof typeof CONFIGS;
type ProbeConfig = (typeof CONFIGS)[ProbeModelSize];

/** Writes a base model with arbitrary weights and removes it after `use`. The code that is timed is the one that trains real models. */
export async function withProbeModel<Result>(
  use: (folder: ModelFolder) => Promise<Result>,
  size: ProbeModelSize = 'realistic',
): Promise<Result> {
  const config = CONFIGS[size];
  const path = await mkdtemp(join(tmpdir(), 'lorasmith-probe-'));
  try {
    await writeFile(join(path, 'config.json'), JSON.stringify(config));
    await writeSafetensors(
      join(path, 'model.safetensors'),
      tensorShapes(config).map(([name, shape]) => ({ name, dtype: 'F32' as const, shape, data: () => weights(shape) })),
    );
    return await use(await readModelFolder(path));
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

function tensorShapes(config: ProbeConfig): [string, number[]][] {
  const { hidden_size: hidden, intermediate_size: intermediate, vocab_size: vocab } = config;
  const keyValue = (hidden / config.num_attention_heads) * config.num_key_value_heads;
  const layers = Array.from({ length: config.num_hidden_layers }, (_, index): [string, number[]][] => [
    [`model.layers.${index}.input_layernorm.weight`, [hidden]],
    [`model.layers.${index}.self_attn.q_proj.weight`, [hidden, hidden]],
    [`model.layers.${index}.self_attn.k_proj.weight`, [keyValue, hidden]],
    [`model.layers.${index}.self_attn.v_proj.weight`, [keyValue, hidden]],
    [`model.layers.${index}.self_attn.o_proj.weight`, [hidden, hidden]],
    [`model.layers.${index}.post_attention_layernorm.weight`, [hidden]],
    [`model.layers.${index}.mlp.gate_proj.weight`, [intermediate, hidden]],
    [`model.layers.${index}.mlp.up_proj.weight`, [intermediate, hidden]],
    [`model.layers.${index}.mlp.down_proj.weight`, [hidden, intermediate]],
  ]);
  return [['model.embed_tokens.weight', [vocab, hidden]], ...layers.flat(), ['model.norm.weight', [hidden]]];
}

/** Small numbers that differ; their values do not matter. */
async function weights(shape: number[]): Promise<Uint8Array> {
  const values = new Float32Array(shape.reduce((product, dimension) => product * dimension, 1));
  for (let i = 0; i < values.length; i++) values[i] = ((i * 7919) % 1009) / 20_000 - 0.025;
  return new Uint8Array(values.buffer);
}

/** A realistic batch: rows as long as many conversations. A step that starts threads and selects kernels comes first. */
const FULL = { rows: 8, length: 192, warmUps: 1, repeats: 3 };
/** So small that its time is the cost of calling the ops, which halves while V8 compiles what calls them. */
const TINY = { rows: 1, length: 8, warmUps: 20, repeats: 15 };
type StepSize = typeof FULL;
/** A row so long that its scores take the time of attention; what else it takes is left in the larger step, with the passes. */
const LONG = { rows: 1, length: 1024 };
/** Numbers of a tensor between two products of the larger step. */
const COPIED = 2 ** 21;

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
export async function measureMachine(
  kernels: KernelSet,
  { hasBfloat16 = true, sizes = 'full' }: MeasureOptions = {},
): Promise<Omit<MachineProfile, 'worker' | 'measured_at' | 'pass_tokens' | 'engine'>> {
  const baseMemoryBytes = process.memoryUsage.rss();
  const rates = await withProbeModel(
    async (folder) => ({
      float32: await measureRates(kernels, folder, 'float32', sizes),
      bfloat16: hasBfloat16 ? await measureRates(kernels, folder, 'bfloat16', sizes) : null,
    }),
    sizes === 'small' ? 'tiny' : 'realistic',
  );
  const [processor] = cpus();
  return {
    processor: `${processor?.model.trim() ?? 'unknown'}, ${cpus().length} cores, kernels: ${kernels.library}`,
    kernels: kernels.library,
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
  kernels: KernelSet,
  folder: ModelFolder,
  precision: FloatDType,
  sizes: 'small' | 'full',
): Promise<MachineRates> {
  const decoder = await loadDecoder(folder, precision, kernels);
  const targets = folder.modules
    .filter(({ name }) => /[qv]_proj$/.test(name))
    .map((layer) => ({ ...layer, rank: RANK, scale: 1 }));
  const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0 });
  try {
    const architecture = folder.architecture as DecoderArchitecture;
    const parts: PartRates =
      engine.device === 'gpu' ? gpuRates(kernels, precision, sizes) : processorRates(kernels, precision, architecture);
    const ofWeights = { weights: weightTraffic(folder, precision), logitsInChunk: LOGITS_PER_CHUNK };
    const work = { architecture, modules: folder.modules, targets, recomputedLayers: 0, ...ofWeights };
    /** A step of this size, without what the parts take of it. */
    const measured = (size: StepSize) => {
      const [load, seconds] = [loadOf(size), stepSeconds(decoder, adapter, size)];
      const { products, attention, traffic } = stepWork(work, load);
      const ofParts =
        products / parts.matmul_gflops +
        attention / parts.attention_gflops +
        weightGigabytes(work, load) / parts.weight_gbytes;
      return { traffic, left: Math.max(0, seconds - ofParts) };
    };
    const overhead = measured(TINY).left;
    const layer_overhead_ms = (1e3 * overhead) / architecture.layerCount;
    const { pass_gbytes } = parts;
    if (pass_gbytes !== undefined) return { ...parts, pass_gbytes, layer_overhead_ms };
    const { traffic, left } = measured(FULL);
    // What is left is small compared with what a busy machine changes: passes are never faster than a copy.
    const copied = passRate('float32', COPIED);
    return { ...parts, layer_overhead_ms, pass_gbytes: traffic / Math.max(left - overhead, traffic / copied) };
  } finally {
    adapter.dispose();
    decoder.dispose();
  }
}

/** The rates that are measured by themselves; that of passes only on a GPU. */
type PartRates = Pick<MachineRates, 'matmul_gflops' | 'weight_gbytes' | 'attention_gflops'> &
  Partial<Pick<MachineRates, 'pass_gbytes'>>;

function processorRates(kernels: KernelSet, precision: FloatDType, architecture: DecoderArchitecture): PartRates {
  const { headCount: heads, keyValueHeadCount: keyValueHeads, headDim } = architecture;
  return {
    ...productRates(kernels, precision, { tokens: FULL.rows * FULL.length, ...PRODUCT }),
    attention_gflops: attentionRate(kernels, precision, { ...LONG, heads, keyValueHeads, headDim }),
  };
}

/** Each by itself: the step of a small model is bound by the calls, so its passes cannot be told from them. */
function gpuRates(kernels: KernelSet, precision: FloatDType, sizes: 'small' | 'full'): PartRates {
  const { product, attention, passCount } = ON_GPU[sizes];
  return {
    ...productRates(kernels, precision, product),
    attention_gflops: attentionRate(kernels, precision, attention),
    pass_gbytes: passRate(precision, passCount),
  };
}

function loadOf({ rows, length }: StepSize) {
  const tokens = rows * length;
  return {
    tokensPerStep: tokens,
    labelsPerStep: tokens - rows,
    squaresPerStep: rows * length ** 2,
    microBatchesPerStep: 1,
  };
}

/** The time of a step in a trainer that has made many. */
function stepSeconds(decoder: Decoder, adapter: LoraAdapter, size: StepSize): number {
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

function batchOf({ rows, length }: StepSize, vocabSize: number): TokenBatch {
  return tokenBatchOf(
    Array.from({ length: rows }, (_, row) => ({
      ids: Int32Array.from({ length }, (_, i) => (row * 31 + i * 17) % vocabSize),
      trained: new Uint8Array(length).fill(1),
    })),
  );
}
