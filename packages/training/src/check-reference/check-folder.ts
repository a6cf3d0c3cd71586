import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mergeModel } from '@lorasmith/export';
import { readModelFolder } from '@lorasmith/model-folder';
import { type FeatureBatch, LoraAdapter, loadClassifier } from '@lorasmith/models';
import type { PeftAdapter, PeftModule } from '@lorasmith/peft-files';
import { type FloatDType, type KernelSet, toFloat32Array } from '@lorasmith/tensor';
import { writeSafetensors } from '@lorasmith/weight-files';
import { AdamW } from '../adamw.js';
import { runnable } from '../batches.js';
import { Classification } from '../objectives/classification/classification.js';
import { optimizerStep } from '../optimizer-step.js';
import { PassScheduler } from '../shared-pass/pass-scheduler.js';
import { checkDecoder } from './check-decoder.js';
import { type Comparison, greatestDifference } from './comparison.js';
import { type ReferenceSteps, readJson, readTensors } from './reference-case.js';

/** Compares our results with those of a reference folder, of a decoder or a classifier. */
export async function checkFolder(folder: string, precision: FloatDType, kernels: KernelSet): Promise<Comparison[]> {
  const isClassifier = await access(join(folder, 'classifier.json')).then(
    () => true,
    () => false,
  );
  return isClassifier ? await checkClassifier(folder, kernels) : await checkDecoder(folder, precision, kernels);
}

interface ClassifierCase {
  layers: number[];
  activation: string;
  r: number;
  alpha: number;
  losses: number[];
  optimizer: Omit<ReferenceSteps['optimizer'], 'max_grad_norm'>;
}

type Tensors = Awaited<ReturnType<typeof readTensors>>;

/** A classifier's reference folder: classifier.json and classifier.safetensors. float32. */
async function checkClassifier(folder: string, kernels: KernelSet): Promise<Comparison[]> {
  const reference = await readJson<ClassifierCase>(folder, 'classifier.json');
  const tensors = await readTensors(join(folder, 'classifier.safetensors'));
  const temporary = await mkdtemp(join(tmpdir(), 'lorasmith-classifier-'));
  try {
    return await compare(reference, tensors, temporary, kernels);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function compare(
  reference: ClassifierCase,
  tensors: Tensors,
  temporary: string,
  kernels: KernelSet,
): Promise<Comparison[]> {
  await writeModelFolder(reference, tensors, temporary);
  const folder = await readModelFolder(temporary);
  const initial = adapterOf('init', reference, tensors);
  const expectedTrained = adapterOf('trained', reference, tensors);
  const model = await loadClassifier(folder, 'float32', kernels);
  const adapter = new LoraAdapter(model.groups, {
    targets: [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale })),
    dropout: 0,
    seed: 0,
    initial,
  });
  const x = tensors.get('x')!;
  const batch: FeatureBatch = {
    features: x.data,
    width: x.shape[1]!,
    labels: Int32Array.from(tensors.get('y')!.data),
  };
  const { optimizer: settings } = reference;
  const [beta1, beta2] = settings.betas;
  const optimizer = new AdamW(kernels, adapter.parameterCount, {
    beta1,
    beta2,
    epsilon: settings.eps,
    weightDecay: settings.weight_decay,
  });
  const run = runnable(new Classification(model), batch);
  const losses: number[] = [];
  const passes = new PassScheduler().join();
  for (let step = 0; step < settings.steps; step++) {
    const stepSettings = { seed: 0, recomputedLayers: 0, max_grad_norm: null, learningRate: settings.lr };
    losses.push((await optimizerStep(adapter, optimizer, [run], stepSettings, passes)).loss);
  }
  const logits = model.logits(batch, [{ adapter }]);
  const comparisons: Comparison[] = [
    {
      part: `losses of ${settings.steps} steps`,
      error: greatestDifference(losses, reference.losses),
      measure: 'absolute',
      tolerance: 1e-4,
    },
    {
      part: 'logits after them',
      error: greatestDifference(toFloat32Array(logits), tensors.get('logits')!.data),
      measure: 'absolute',
      tolerance: 1e-4,
    },
    compareTrained(adapter.toPeft(null), expectedTrained),
    await compareMerged(expectedTrained, tensors, temporary),
  ];
  logits.dispose();
  optimizer.dispose();
  adapter.dispose();
  model.dispose();
  return comparisons;
}

async function writeModelFolder(reference: ClassifierCase, tensors: Tensors, folder: string): Promise<void> {
  const config = { model_type: 'classifier', layers: reference.layers, activation: reference.activation };
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  const weights = [...tensors].filter(([name]) => /^\d+\.(weight|bias)$/.test(name));
  await writeSafetensors(
    join(folder, 'model.safetensors'),
    weights.map(([name, { shape, data }]) => ({ name, dtype: 'F32', shape, data: bytesOf(data) })),
  );
}

const bytesOf = (data: Float32Array) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

function adapterOf(state: 'init' | 'trained', { r, alpha }: ClassifierCase, tensors: Tensors): PeftAdapter {
  const modules = new Map<string, PeftModule>();
  for (const [name, a] of tensors) {
    const layer = new RegExp(`^${state}\\.(\\d+)\\.lora_A$`).exec(name)?.[1];
    if (layer === undefined) continue;
    const b = tensors.get(`${state}.${layer}.lora_B`)!;
    modules.set(layer, {
      a: a.data,
      b: b.data,
      rank: r,
      scale: alpha / r,
      inFeatures: a.shape[1]!,
      outFeatures: b.shape[0]!,
    });
  }
  return { dropout: 0, modules, baseModelNameOrPath: null };
}

function compareTrained(actual: PeftAdapter, expected: PeftAdapter): Comparison {
  let greatest = 0;
  for (const [name, { a, b }] of expected.modules) {
    const ours = actual.modules.get(name)!;
    greatest = Math.max(greatest, greatestDifference(ours.a, a), greatestDifference(ours.b, b));
  }
  return { part: 'trained adapter', error: greatest, measure: 'absolute', tolerance: 1e-5 };
}

async function compareMerged(trained: PeftAdapter, tensors: Tensors, baseFolder: string): Promise<Comparison> {
  const output = await mkdtemp(join(tmpdir(), 'lorasmith-merged-'));
  try {
    await mergeModel({ model: await readModelFolder(baseFolder), adapter: trained, outputFolder: output });
    const merged = await readTensors(join(output, 'model.safetensors'));
    const errors = [...trained.modules.keys()].map((name) =>
      greatestDifference(merged.get(`${name}.weight`)!.data, tensors.get(`merged.${name}.weight`)!.data),
    );
    return { part: 'merged weights', error: Math.max(...errors), measure: 'absolute', tolerance: 1e-5 };
  } finally {
    await rm(output, { recursive: true, force: true });
  }
}
