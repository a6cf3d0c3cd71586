import { join } from 'node:path';
import {
  type DecoderArchitecture,
  type DecoderNames,
  type Experts,
  hasExperts,
  hasScores,
  type LatentAttention,
  type LayerAttention,
  type Mixer,
  type Mlp,
  type ParallelMlpNames,
  type RopeSettings,
  readModelFolder,
} from '@lorasmith/model-folder';
import { LoraAdapter, loadDecoder } from '@lorasmith/models';
import { readPeftFolder } from '@lorasmith/peft-files';
import { chooseKernels, scope, toFloat32Array } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../test/numeric/greatest-difference.js';
import { usualCases } from '../../../test/usual-cases.js';
import { tolerancesOf } from './check-reference/comparison.js';
import { ReferenceBatch, readTensors } from './check-reference/reference-case.js';

const kernels = chooseKernels('raw');

const CASES = new URL('../../../test/fixtures/families/', import.meta.url).pathname;
/** The number of tolerances that a wrong variant must be off, so that it is not the rounding that is noticed. */
const CLEARLY = 10;

type Change = (architecture: DecoderArchitecture) => DecoderArchitecture;

const names =
  (change: (own: DecoderNames) => Partial<DecoderNames>): Change =>
  (own) => ({ ...own, names: { ...own.names, ...change(own.names) } });
const attention =
  (change: Partial<DecoderArchitecture['attention']>): Change =>
  (own) => ({ ...own, attention: { ...own.attention, ...change } });
const ofMixers =
  (change: (mixer: Mixer) => object): Change =>
  (own) => ({
    ...own,
    layers: own.layers.map(({ mixer, mlp }) => ({ mlp, mixer: { ...mixer, ...change(mixer) } })),
  });
const ofLayers = (change: (own: LayerAttention) => object): Change =>
  ofMixers((mixer) => (hasScores(mixer) ? change(mixer as LayerAttention) : {}));
const ofRopes =
  (change: (rope: RopeSettings) => Partial<RopeSettings>): Change =>
  (own) => ({ ...own, ropes: own.ropes.map((rope) => rope && { ...rope, ...change(rope) }) });

const ofMlps =
  (change: (mlp: Mlp) => Mlp): Change =>
  (own) => ({ ...own, layers: own.layers.map(({ mixer, mlp }) => ({ mixer, mlp: change(mlp) })) });
const ofExperts = (change: (own: Experts) => Partial<Experts>): Change =>
  ofMlps((mlp) => (hasExperts(mlp) ? { ...mlp, experts: { ...mlp.experts, ...change(mlp.experts) } } : mlp));
const experts = (change: Partial<Experts>): Change => ofExperts(() => change);

const routing = (change: Partial<NonNullable<Experts['sigmoid']>>): Change =>
  ofExperts(({ sigmoid }) => ({ sigmoid: { ...sigmoid!, ...change } }));

const latent = (change: Partial<LatentAttention>): Change => ofMixers(({ kind }) => (kind === 'latent' ? change : {}));

const proportional = { type: 'proportional', factor: 1 } as const;
const ofOwners = (change: (owner: number) => number): Change =>
  ofLayers(({ keysAndValuesOf: owner }) => (owner === undefined ? {} : { keysAndValuesOf: change(owner) }));
const exchangedRopes = ofLayers(({ rope }) => ({ rope: 1 - rope }));
const everywhereRotated: Change = (own) => ({
  ...own,
  ropes: own.ropes.map((rope) => rope ?? own.ropes.find((other) => other !== null)!),
});
const normsBeforeBranches = names(({ attentionBranchNorm, mlpBranchNorm }) => ({
  attentionNorm: attentionBranchNorm,
  attentionBranchNorm: null,
  mlpNorm: mlpBranchNorm,
  mlpBranchNorm: null,
}));

const ofBeside = (change: (own: DecoderNames, beside: ParallelMlpNames) => [DecoderNames, ParallelMlpNames]): Change =>
  names((own) => {
    const [changed, beside] = change(own, own.experts!.beside!);
    return { ...changed, experts: { ...own.experts!, beside } };
  });
const exchangedBranchNorms = ofBeside((own, beside) => [
  own,
  { ...beside, branchNorm: beside.mlpBranchNorm, mlpBranchNorm: beside.branchNorm },
]);
const exchangedInputNorms = ofBeside((own, beside) => [
  { ...own, mlpNorm: beside.norm },
  { ...beside, norm: own.mlpNorm! },
]);

const VARIANTS: [name: string, piece: string, wrong: Change][] = [
  ['gemma3-text', 'rotary of the other class of layers', exchangedRopes],
  ['gemma3-text', 'rotary without scaling', ofRopes(() => ({ scaling: null }))],
  ['gemma3-text', 'no window', ofLayers(() => ({ window: null }))],
  ['gemma3-text', 'norm weights that are no offsets', (own) => ({ ...own, norm: { ...own.norm, weightOffset: 0 } })],
  ['gemma3-text', 'no norms of heads', names(() => ({ queryNorm: null, keyNorm: null }))],
  ['gemma3-text', 'no norm after attention', names(() => ({ attentionBranchNorm: null }))],
  ['gemma3-text', 'no norm after the MLP', names(() => ({ mlpBranchNorm: null }))],
  ['gemma3', 'rotary of the other class of layers', exchangedRopes],
  ['olmo3', 'rotary of the other class of layers', exchangedRopes],
  ['exaone4', 'rotary where there is none', exchangedRopes],
  ['smollm3', 'rotary in every layer', everywhereRotated],
  ['smollm3', 'no rotary in any layer', (own) => ({ ...own, ropes: own.ropes.map(() => null) })],
  ['ministral3', 'no growth of queries', attention({ queryGrowth: null })],
  ['ministral3', 'growth from the first position', attention({ queryGrowth: { beta: 0.1, originalMaxPositions: 1 } })],
  ['granite', 'no factor of embeddings', (own) => ({ ...own, embeddingScale: 1 })],
  ['granite', 'no factor of branches', (own) => ({ ...own, branchScale: 1 })],
  ['granite', 'no factor of logits', (own) => ({ ...own, logitScale: 1 })],
  ['granite', 'the usual factor of scores', (own) => ofLayers(() => ({ scale: own.headDim ** -0.5 }))(own)],
  ['olmo2', 'no norms after branches', names(() => ({ attentionBranchNorm: null, mlpBranchNorm: null }))],
  ['olmo2', 'norms before branches', normsBeforeBranches],
  ['olmo2', 'no norm of the whole projection', names(() => ({ queryNorm: null, keyNorm: null }))],
  ['exaone4', 'norms before branches', normsBeforeBranches],
  ['glm', 'rotary of halves', ofRopes(() => ({ interleaved: false }))],
  ['glm4', 'rotary of halves', ofRopes(() => ({ interleaved: false }))],
  ['glm4', 'rotary of the whole head', ofRopes(() => ({ partialRotaryFactor: 1 }))],
  ['ernie4_5', 'rotary of halves', ofRopes(() => ({ interleaved: false }))],
  ['mistral3', 'interleaved rotary', ofRopes(() => ({ interleaved: true }))],
  ['nemotron', 'an activation that is not squared', (own) => ({ ...own, mlp: { ...own.mlp, activation: 'relu' } })],
  ['seed_oss', 'no bias', (own) => ({ ...own, bias: { ...own.bias, queryKeyValue: false } })],
  ['qwen3_5-text', 'rotary of the whole head', ofRopes(() => ({ partialRotaryFactor: 1 }))],
  ['qwen3_5-text', 'norm weights that are no offsets', (own) => ({ ...own, norm: { ...own.norm, weightOffset: 0 } })],
  ['qwen3_5', 'another epsilon', (own) => ({ ...own, norm: { ...own.norm, epsilon: 0.1 } })],
  ['gemma4-text', 'keys and values of an earlier layer', ofOwners((owner) => (owner === 3 ? 1 : owner))],
  [
    'gemma4-text',
    'rotary of fewer pairs',
    ofRopes(({ scaling }) => ({ scaling: scaling && { ...proportional, pairs: 1 } })),
  ],
  ['gemma4-text', 'values without a norm', attention({ valueNorm: null })],
  ['gemma4-text', 'the usual factor of scores', ofLayers(() => ({ scale: 0.4 }))],
  ['gemma4-text', 'no factor of layers', names(() => ({ layerScale: null }))],
  ['gemma4-text', 'no cap of logits', (own) => ({ ...own, logitSoftcap: null })],
  ['gemma4_moe-text', 'the softmax of all logits as weights', experts({ renormalized: false })],
  ['gemma4_moe-text', 'one expert less', experts({ perToken: 1 })],
  ['gemma4_moe-text', 'norms of the two branches exchanged', exchangedBranchNorms],
  ['gemma4_moe-text', 'what both read exchanged', exchangedInputNorms],
  ['gemma4-text-keys', 'no window', ofLayers(() => ({ window: null }))],
  ['qwen3_moe', 'the softmax of all logits as weights', experts({ renormalized: false })],
  ['qwen3_moe-fused', 'weights that sum to one', experts({ renormalized: true })],
  ['granitemoe', 'the softmax of all logits as weights', experts({ renormalized: false })],
  ['granitemoe', 'no factor of branches', (own) => ({ ...own, branchScale: 1 })],
  ['granitemoeshared', 'one expert less', experts({ perToken: 1 })],
  ['granitemoehybrid-experts', 'the softmax of all logits as weights', experts({ renormalized: false })],
  ['qwen2_moe', 'one expert less', experts({ perToken: 1 })],
  ['glm4_moe', 'experts of all groups', routing({ groupsPerToken: 3 })],
  ['glm4_moe', 'weights without the factor', routing({ scale: 1 })],
  ['glm4_moe-plain', 'weights that sum to one', experts({ renormalized: true })],
  ['glm4_moe', 'rotary of the whole head', ofRopes(() => ({ partialRotaryFactor: 1 }))],
  ['deepseek_v3', 'rotary of halves', ofRopes(() => ({ interleaved: false }))],
  ['deepseek_v3', 'rotary without scaling', ofRopes(() => ({ scaling: null }))],
  ['deepseek_v3', 'the usual factor of scores', ofLayers(() => ({ scale: 10 ** -0.5 }))],
  ['deepseek_v3', 'another epsilon of latents', latent({ normEpsilon: 0.1 })],
  ['deepseek_v3', 'experts of all groups', routing({ groupsPerToken: 3 })],
  ['deepseek_v3-plain', 'rotary of neighbours', ofRopes(() => ({ interleaved: true }))],
  ['deepseek_v3-plain', 'weights that sum to one', experts({ renormalized: true })],
  ['glm4_moe_lite', 'rotary of halves', ofRopes(() => ({ interleaved: false }))],
  ['glm4_moe_lite', 'weights without the factor', routing({ scale: 1 })],
  ['mistral4', 'no growth of queries', attention({ queryGrowth: null })],
  ['mistral4', 'the usual factor of scores', ofLayers(() => ({ scale: 10 ** -0.5 }))],
  ['mistral4', 'the softmax of all logits as weights', experts({ renormalized: false })],
  ['qwen3_next', 'the softmax of all logits as weights', experts({ renormalized: false })],
  ['qwen3_next', 'norm weights that are no offsets', (own) => ({ ...own, norm: { ...own.norm, weightOffset: 0 } })],
  ['qwen3_next', 'rotary of the whole head', ofRopes(() => ({ partialRotaryFactor: 1 }))],
  ['qwen2_moe-plain', 'weights that sum to one', experts({ renormalized: true })],
  ['qwen3_5_moe-text', 'the softmax of all logits as weights', experts({ renormalized: false })],
  [
    'qwen3_5_moe-text',
    'norm weights that are no offsets',
    (own) => ({ ...own, norm: { ...own.norm, weightOffset: 0 } }),
  ],
  ['gpt_oss', 'no sinks', names(() => ({ sinks: null }))],
  ['gpt_oss', 'no window', ofLayers(() => ({ window: null }))],
  ['gpt_oss', 'rotary without scaling', ofRopes(() => ({ scaling: null }))],
  ['gpt_oss', 'no biases of router and experts', experts({ biases: false })],
  ['gpt_oss', 'the softmax of all logits as weights', experts({ renormalized: false })],
  ['gpt_oss', 'a unit that is not clamped', (own) => ({ ...own, mlp: { ...own.mlp, clampedAt: 1e9 } })],
  ['gpt_oss', 'halves of gates and ups', (own) => ({ ...own, mlp: { ...own.mlp, clampedAt: undefined } })],
  ['gemma2', 'scores without a cap', attention({ softcap: null })],
  ['gemma2', 'logits without a cap', (own) => ({ ...own, logitSoftcap: null })],
];

/** The greatest difference between the logits of the reference and those of the architecture, changed or not. */
async function differenceOf(name: string, change: Change = (own) => own): Promise<number> {
  const folder = join(CASES, name);
  const base = await readModelFolder(join(folder, 'base'));
  const architecture = change(base.architecture as DecoderArchitecture);
  const initial = await readPeftFolder(join(folder, 'adapter_init'), { base });
  const batch = await ReferenceBatch.read(folder);
  const { data } = (await readTensors(join(folder, 'expected.safetensors'))).get('logits')!;
  const decoder = await loadDecoder({ ...base, architecture }, 'float32', kernels);
  const targets = [...initial.modules].map(([module, { rank, scale }]) => ({ name: module, rank, scale }));
  const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0, initial });
  const logits = batch.rows.flatMap(({ ids }) => [
    ...scope(() => toFloat32Array(decoder.logits({ ids, rowLengths: [ids.length] }, [{ adapter }]))),
  ]);
  adapter.dispose();
  decoder.dispose();
  return greatestDifference(logits, batch.unpadded(data, architecture.vocabSize));
}

/** The tolerance of the comparison with the reference. */
async function toleranceOf(name: string): Promise<number> {
  const { architecture } = await readModelFolder(join(CASES, name, 'base'));
  return tolerancesOf('float32', architecture as DecoderArchitecture, { largestLogit: 1, labels: 1 }).logits;
}

describe('the comparison with the reference notices', () => {
  test.each(usualCases(VARIANTS, 40))('in %s: %s', async (name, _, wrong) => {
    const tolerance = await toleranceOf(name);
    expect(await differenceOf(name)).toBeLessThan(tolerance);
    expect(await differenceOf(name, wrong)).toBeGreaterThan(CLEARLY * tolerance);
  });

  const uncomputable: [string, string, Change][] = [
    ['olmo2', 'norms of heads in place of the whole projection', attention({ queryKeyNorm: 'head' })],
    ['gemma3-text', 'a norm of the whole projection in place of heads', attention({ queryKeyNorm: 'projection' })],
    ['qwen3_5-text', 'attention without a gate', attention({ outputGate: null })],
    ['qwen3_5-text', 'attention everywhere', (own) => ({ ...own, layers: own.layers.map(() => own.layers[3]!) })],
    ['gemma4-text', 'no inputs of layers', (own) => ({ ...own, layerInputs: null })],
    ['gemma4-text', 'keys and values of its own in each layer', ofLayers(() => ({ keysAndValuesOf: undefined }))],
    ['gemma4-text', 'MLPs of one width', ofMlps((own) => ({ ...own, intermediateSize: undefined }) as Mlp)],
    [
      'gemma4_moe-text',
      'experts in the place of the MLP',
      ofMlps((own) => (hasExperts(own) ? { kind: 'sparse', experts: own.experts } : own)),
    ],
    ['gemma4-text-keys', 'projections of values everywhere', ofLayers(() => ({ keysAreValues: false }))],
    ['gemma4-text-keys', 'heads of one size', ofLayers(() => ({ headDim: undefined }))],
    ['gemma4', 'as many keys in each layer', ofLayers(() => ({ keyValueHeadCount: undefined }))],
    ['granitemoeshared', 'no shared expert', experts({ shared: null })],
    ['qwen3_moe', 'no experts', ofMlps(() => ({ kind: 'dense' }))],
    ['qwen3_moe', 'experts of another form', experts({ files: 'fused' })],
    ['deepseek_v3', 'queries without a latent', latent({ queryRank: null })],
    ['deepseek_v3', 'values as wide as keys', latent({ valueDim: 10 })],
    ['deepseek_v3', 'fewer numbers that turn', latent({ rotaryDim: 2 })],
    ['gemma3', 'no prefixes of names', names(() => ({ prefixes: [] }))],
    ['mistral3', 'no prefixes of names', names(() => ({ prefixes: [] }))],
  ];
  test.each(uncomputable)('in %s: %s, which does not even compute', async (name, _, wrong) => {
    await expect(differenceOf(name, wrong)).rejects.toThrow();
  });
});
