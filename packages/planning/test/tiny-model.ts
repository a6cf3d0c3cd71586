import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AdaptableModule } from '@lorasmith/contracts';
import { type DecoderArchitecture, type LayerSettings, LLAMA_NAMES, type ModelFolder } from '@lorasmith/model-folder';
import { onTestFinished } from 'vitest';

/** Tokenizers of the supported families, trained on a little text; byte-level ones have few merges beyond single bytes. */
export type TinyTokenizer = 'llama3' | 'qwen2' | 'smollm' | 'llama2-legacy' | 'llama2-metaspace';

const fixtures = join(import.meta.dirname, '../../model-folder/src/fixtures/tokenizers');

export const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/** A folder with a real tokenizer, deleted when the test ends. */
export async function tinyTokenizerFolder(tokenizer: TinyTokenizer, template: string | null = null): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'planning-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await cp(join(fixtures, tokenizer), folder, { recursive: true });
  if (template !== null) await writeFile(join(folder, 'chat_template.jinja'), template);
  return folder;
}

const linear = (name: string, in_features: number, out_features: number): AdaptableModule => ({
  name,
  in_features,
  out_features,
});

/** A layer of {@link tinyDecoder}. */
export const TINY_LAYER: LayerSettings = {
  mixer: { kind: 'attention', scale: 8 ** -0.5, window: null, rope: 0 },
  mlp: { kind: 'dense' },
};

/** The folder of a decoder with two layers; planning never looks at weights, so there are none. */
export async function tinyDecoder(
  tokenizer: TinyTokenizer,
  template: string | null,
  changes: Partial<DecoderArchitecture> = {},
): Promise<ModelFolder> {
  const path = await tinyTokenizerFolder(tokenizer, template);
  const architecture: DecoderArchitecture = {
    kind: 'decoder',
    family: 'llama',
    vocabSize: 1024,
    hiddenSize: 32,
    intermediateSize: 48,
    layerCount: 2,
    headCount: 4,
    keyValueHeadCount: 2,
    headDim: 8,
    names: LLAMA_NAMES,
    embeddingScale: 1,
    branchScale: 1,
    logitScale: 1,
    norm: { kind: 'rms', epsilon: 1e-5, weightOffset: 0 },
    ropes: [{ theta: 10000, partialRotaryFactor: 1, interleaved: false, scaling: null }],
    attention: {
      softcap: null,
      queryGrowth: null,
      queryKeyNorm: 'head',
      valueNorm: null,
      outputGate: null,
    },
    layers: [TINY_LAYER, TINY_LAYER],
    layerInputs: null,
    mlp: { gated: true, activation: 'silu' },
    bias: { queryKeyValue: false, attentionOutput: false, mlp: false },
    transposedWeights: false,
    logitSoftcap: null,
    tiedHead: false,
    maxPositions: 512,
    ignoredDropout: [],
    bosTokenId: null,
    eosTokenIds: [],
    padTokenId: null,
    ...changes,
  };
  return {
    ...emptyFolder(path),
    architecture,
    modules: [0, 1].flatMap((layer) => [
      linear(`model.layers.${layer}.self_attn.q_proj`, 32, 32),
      linear(`model.layers.${layer}.self_attn.v_proj`, 32, 16),
      linear(`model.layers.${layer}.mlp.down_proj`, 48, 32),
    ]),
    headModule: linear('lm_head', 32, 1024),
    parameterCount: 100_000,
  };
}

/** A 3-4-2 classifier. */
export function tinyClassifier(): ModelFolder {
  return {
    ...emptyFolder('/nowhere'),
    architecture: {
      kind: 'classifier',
      family: 'classifier',
      layers: [
        { name: '0', inFeatures: 3, outFeatures: 4, bias: true },
        { name: '2', inFeatures: 4, outFeatures: 2, bias: true },
      ],
      activation: 'relu',
    },
    modules: [linear('0', 3, 4), linear('2', 4, 2)],
    headModule: null,
    parameterCount: 26,
  };
}

function emptyFolder(path: string) {
  return {
    path,
    name: 'tiny',
    origin: null,
    files: [],
    tensors: new Map(),
    quantized: new Map(),
    baseQuantization: 'none' as const,
    linears: new Map(),
    expertParameters: new Map(),
    parameters: [],
    weightBytes: 0,
    dtype: 'float32' as const,
    untiedByFiles: false,
  };
}
