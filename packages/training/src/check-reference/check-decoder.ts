import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mergeModel } from '@lorasmith/export';
import { hasTiedHead, isExpertParameter, readModelFolder } from '@lorasmith/model-folder';
import { type ActingAdapter, type Decoder, LoraAdapter, loadDecoder } from '@lorasmith/models';
import { fromPeftB, moduleOf, type PeftAdapter, readPeftFolder, wrapperPaths } from '@lorasmith/peft-files';
import { type FloatDType, type KernelSet, scope, toFloat32Array } from '@lorasmith/tensor';
import { AdamW } from '../adamw.js';
import { runnable } from '../batches.js';
import { NextToken } from '../objectives/next-token/next-token.js';
import { takeBatchLoss } from '../objectives/objective.js';
import { optimizerStep, type StepResult } from '../optimizer-step.js';
import { PassScheduler } from '../shared-pass/pass-scheduler.js';
import {
  type Comparison,
  differenceByLargest,
  differenceByNorm,
  greatestDifference,
  type Tolerances,
  tolerancesOf,
} from './comparison.js';
import { ReferenceBatch, type ReferenceSteps, readJson, readTensors, readWeights } from './reference-case.js';

const EMBEDDING_OR_HEAD = /(^|\.)(embed_tokens|wte|lm_head)\.weight$/;

type Tensors = Awaited<ReturnType<typeof readTensors>>;

/** A decoder's reference folder: base, adapter_init, batch.json, expected.safetensors, case.json, adapter_trained, merged. */
export async function checkDecoder(folder: string, precision: FloatDType, kernels: KernelSet): Promise<Comparison[]> {
  const base = await readModelFolder(join(folder, 'base'));
  const initial = await readPeftFolder(join(folder, 'adapter_init'), { base });
  const trained = await readPeftFolder(join(folder, 'adapter_trained'), { base });
  const batch = await ReferenceBatch.read(folder);
  const expected = await readTensors(join(folder, 'expected.safetensors'));
  const steps = await readJson<ReferenceSteps>(folder, 'case.json');
  const model = await loadDecoder(base, precision, kernels);
  const logits = expected.get('logits')!.data;
  const largestLogit = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const tolerances = tolerancesOf(precision, model.architecture, {
    largestLogit,
    labels: batch.asTokenBatch().labels.length,
  });
  const adapter = new LoraAdapter(model.groups, {
    targets: [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale })),
    dropout: 0,
    seed: 0,
    initial,
  });
  try {
    return [
      compareLogits('logits', model, [{ adapter }], batch, logits, tolerances),
      ...compareGradients(model, adapter, batch, expected, tolerances),
      ...(await compareSteps(model, adapter, batch, steps, tolerances)),
      compareTrained(adapter.toPeft(null), initial, trained, tolerances),
      ...(precision === 'float32' ? await compareMerged(folder, trained, batch, tolerances, kernels) : []),
    ];
  } finally {
    adapter.dispose();
    model.dispose();
  }
}

function compareLogits(
  part: string,
  model: Decoder,
  adapters: readonly ActingAdapter[],
  batch: ReferenceBatch,
  padded: Float32Array,
  tolerances: Tolerances,
): Comparison {
  const actual = scope(() => {
    const logits = batch.rows.map(({ ids }) =>
      toFloat32Array(model.logits({ ids, rowLengths: [ids.length] }, adapters)),
    );
    return Float32Array.from(logits.flatMap((row) => [...row]));
  });
  const expected = batch.unpadded(padded, model.architecture.vocabSize);
  return model.dtype === 'float32'
    ? { part, error: greatestDifference(actual, expected), measure: 'absolute', tolerance: tolerances.logits }
    : {
        part,
        error: differenceByLargest(actual, expected),
        measure: 'relative to the largest',
        tolerance: tolerances.logits,
      };
}

function compareGradients(
  model: Decoder,
  adapter: LoraAdapter,
  batch: ReferenceBatch,
  expected: Tensors,
  tolerances: Tolerances,
): Comparison[] {
  const objective = new NextToken(model);
  const pass = objective.lossAndGradients(batch.asTokenBatch(), { adapters: [{ adapter }] });
  const { lossSum, normaliser: labels } = takeBatchLoss(pass);
  const gradient = adapter.takeGradient();
  const matrices = adapter.matricesOf(gradient);
  gradient.dispose();
  const comparisons: Comparison[] = [
    {
      part: 'loss',
      error: Math.abs(lossSum / labels - expected.get('loss')!.data[0]!),
      measure: 'absolute',
      tolerance: tolerances.loss,
    },
  ];
  const names = new Set<string>();
  for (const [module, { a, b, rank, outFeatures, experts }] of matrices) {
    for (const [letter, sum] of [['A', a] as const, ['B', b] as const]) {
      const name = `grad.base_model.model.${savedPath(module, [...matrices.keys()])}.lora_${letter}.weight`;
      names.add(name);
      const wanted = expected.get(name);
      if (wanted === undefined) throw new Error(`expected.safetensors has no ${name}`);
      const mean = sum.map((value) => value / labels);
      const isOfExperts = letter === 'B' && experts !== undefined;
      const data = isOfExperts ? fromPeftB(wanted.data, { experts, rank, outFeatures }) : wanted.data;
      comparisons.push({
        part: `gradient of ${module}.lora_${letter}`,
        error: differenceByLargest(mean, data),
        measure: 'relative to the largest',
        tolerance: tolerances.gradient,
      });
    }
  }
  const unmatched = [...expected.keys()].filter((name) => name.startsWith('grad.') && !names.has(name));
  if (unmatched.length > 0) throw new Error(`no gradient was computed for ${unmatched.join(', ')}`);
  return comparisons;
}

async function compareSteps(
  model: Decoder,
  adapter: LoraAdapter,
  batch: ReferenceBatch,
  { optimizer: settings, losses, grad_norms: norms }: ReferenceSteps,
  tolerances: Tolerances,
): Promise<Comparison[]> {
  const tokenBatch = batch.asTokenBatch();
  const [beta1, beta2] = settings.betas;
  const ratio = settings.lora_plus_ratio ?? settings.loraplus_lr_ratio;
  const rateFactors = ratio === undefined ? null : adapter.learningRateFactors(ratio);
  const options = { beta1, beta2, epsilon: settings.eps, weightDecay: settings.weight_decay, rateFactors };
  const optimizer = new AdamW(model.kernels, adapter.parameterCount, options);
  const run = runnable(new NextToken(model), tokenBatch);
  const results: StepResult[] = [];
  const passes = new PassScheduler().join();
  for (let step = 0; step < settings.steps; step++) {
    const stepSettings = {
      seed: 0,
      recomputedLayers: 0,
      max_grad_norm: settings.max_grad_norm,
      learningRate: settings.lr,
    };
    results.push(await optimizerStep(adapter, optimizer, [run], stepSettings, passes));
  }
  optimizer.dispose();
  const after = run.loss({ adapters: [{ adapter }] });
  const actualLosses = [...results.map(({ loss }) => loss), after.lossSum / after.normaliser];
  const relativeNorms = results.map(({ gradNorm }, step) => gradNorm / norms[step]!);
  return [
    {
      part: `losses of ${settings.steps} steps`,
      error: greatestDifference(actualLosses, losses),
      measure: 'absolute',
      tolerance: tolerances.stepLosses,
    },
    {
      part: `gradient norms of ${settings.steps} steps`,
      error: greatestDifference(
        relativeNorms,
        norms.map(() => 1),
      ),
      measure: 'relative to the largest',
      tolerance: tolerances.stepNorms,
    },
  ];
}

function compareTrained(
  actual: PeftAdapter,
  initial: PeftAdapter,
  expected: PeftAdapter,
  tolerances: Tolerances,
): Comparison {
  const flat = (adapter: PeftAdapter) =>
    Float32Array.from(
      [...actual.modules.keys()].flatMap((name) => {
        const { a, b } = adapter.modules.get(name)!;
        return [...a, ...b];
      }),
    );
  const start = flat(initial);
  const wanted = flat(expected);
  const got = flat(actual);
  const part = 'trained adapter';
  if (tolerances.trained <= 1e-5) {
    return { part, error: greatestDifference(got, wanted), measure: 'absolute', tolerance: tolerances.trained };
  }
  const moved = (values: Float32Array) => values.map((value, i) => value - start[i]!);
  return {
    part,
    error: differenceByNorm(moved(got), moved(wanted)),
    measure: 'relative in norm',
    tolerance: tolerances.trained,
  };
}

/** Merges the reference's trained adapter and compares every weight of the folder, and its logits. */
async function compareMerged(
  folder: string,
  trained: PeftAdapter,
  batch: ReferenceBatch,
  tolerances: Tolerances,
  kernels: KernelSet,
): Promise<Comparison[]> {
  const output = await mkdtemp(join(tmpdir(), 'lorasmith-merged-'));
  try {
    await mergeModel({ model: await readModelFolder(join(folder, 'base')), adapter: trained, outputFolder: output });
    const merged = await readModelFolder(output);
    const actual = await readWeights(output);
    const expected = await readWeights(join(folder, 'merged'));
    let greatest = 0;
    const { linears, headModule } = merged;
    const tied = hasTiedHead(merged.architecture);
    for (const [name, { data }] of expected) {
      // PEFT saves a tied head under the name of the embedding, whatever its name is in the base's files.
      const isElsewhere = !actual.has(name) && tied && EMBEDDING_OR_HEAD.test(name);
      const ours = actual.get(isElsewhere ? linears.get(headModule!.name)!.weight : name);
      if (ours === undefined) throw new Error(`the merged model has no ${name}`);
      const difference = greatestDifference(ours.data, data);
      if (!(difference <= greatest)) greatest = difference;
    }
    const logits = (await readTensors(join(folder, 'merged', 'expected.safetensors'))).get('logits')!.data;
    const model = await loadDecoder(merged, 'float32', kernels);
    const comparison = compareLogits('merged logits', model, [], batch, logits, tolerances);
    model.dispose();
    return [
      { part: 'merged weights', error: greatest, measure: 'absolute', tolerance: tolerances.trained },
      comparison,
    ];
  } finally {
    await rm(output, { recursive: true, force: true });
  }
}

/** PEFT's path of a module in files: that of its wrapper for a parameter of experts. */
function savedPath(module: string, modules: readonly string[]): string {
  if (!isExpertParameter(module)) return module;
  const ofModule = modules.filter((other) => isExpertParameter(other) && moduleOf(other) === moduleOf(module));
  return wrapperPaths(ofModule)[ofModule.indexOf(module)]!;
}
