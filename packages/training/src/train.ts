import { createHash } from 'node:crypto';
import {
  type AdapterManifest,
  type Dataset,
  type Evaluation,
  type JobSpec,
  type NewJobEvent,
  ProductError,
  type Report,
} from '@lorasmith/contracts';
import { LoraAdapter, type PeftAdapter, readPeftFolder, trueAlpha, writePeftFolder } from '@lorasmith/lora';
import { digestWeights, type ModelFolder, readModelFolder } from '@lorasmith/model-folder';
import { type Plan, planJob } from '@lorasmith/planning';
import { engine, kernelsInUse } from '@lorasmith/tensor';
import { ADAMW_DEFAULTS, AdamW } from './adamw.js';
import { BaseModelCache } from './base-model-cache.js';
import { batchSource } from './batches.js';
import { choosePrecision } from './precision.js';
import { TrainingRun } from './training-run.js';

export interface TrainOptions {
  spec: JobSpec;
  /** Folder of the base model. */
  modelFolder: string;
  dataset: Dataset;
  /** The dataset's rows, JSONL. */
  rowsFile: string;
  /** The newest checkpoint of this run in it is gone on from; new ones are written there. */
  checkpointFolder: string;
  /** The PEFT files are written here; it must exist. */
  outputFolder: string;
  /** PEFT folder to start from (`init_from`). */
  initialAdapterFolder: string | null;
  /** Aborted with the reason `shutdown`, a checkpoint is saved before training stops. */
  signal: AbortSignal;
  /** report-ready, step-finished, evaluation-finished, checkpoint-saved. */
  onEvent(event: NewJobEvent): void;
  /** Keeps the base model for the next job; default: the model is freed at the end. */
  cache?: BaseModelCache;
}

/** What the manifest of the adapter says of its training. */
export type TrainOutcome = {
  [Field in 'base_model' | 'report' | 'lora' | 'result' | 'versions']: NonNullable<AdapterManifest[Field]>;
};

/** Trains a LoRA adapter and writes it as a PEFT folder.
 *
 * Runs in a process of its own: the engine's calls block. Between micro-batches the event loop gets its turn. The process
 * calls useFusedOps() before, if it wants them.
 *
 * @throws ProductError cancelled, non_finite_loss, invalid_adapter, model_*, and what planning finds wrong with the data
 */
export async function train(options: TrainOptions): Promise<TrainOutcome> {
  const { spec, signal, dataset } = options;
  const model = await readModelFolder(options.modelFolder);
  const plan = await planJob({ spec, model, dataset, rowsFile: options.rowsFile, signal });
  const precision = choosePrecision(spec.training.precision, model.architecture.family);
  const report: Report = { ...plan.report, precision };
  options.onEvent({ type: 'report-ready', data: { report } });

  const initial = await initialAdapter(options.initialAdapterFolder, plan);
  const weightsSha256 = await digestWeights(model);
  const cache = options.cache ?? new BaseModelCache();
  try {
    const base = await cache.get(model, precision.chosen, weightsSha256);
    const adapter = new LoraAdapter(base.slots, {
      targets: plan.targets.map(({ name }) => name),
      r: spec.lora.r,
      alpha: trueAlpha(spec.lora),
      dropout: spec.lora.dropout,
      seed: spec.training.seed,
      initial,
    });
    const optimizer = new AdamW(adapter.parameterCount, {
      ...ADAMW_DEFAULTS,
      weightDecay: spec.training.weight_decay,
    });
    try {
      const run = new TrainingRun({
        id: runId(spec, dataset, weightsSha256, precision.chosen),
        settings: spec.training,
        steps: plan.steps,
        adapter,
        optimizer,
        training: batchSource(base, plan.training),
        validation: plan.validation === null ? null : batchSource(base, plan.validation),
        checkpointFolder: options.checkpointFolder,
        signal,
        onEvent: options.onEvent,
      });
      const result = await run.toTheEnd();
      return await publishable({ options, model, weightsSha256, report, adapter, result });
    } finally {
      optimizer.dispose();
      adapter.detach();
    }
  } finally {
    if (options.cache === undefined) cache.dispose();
  }
}

async function publishable(trained: {
  options: TrainOptions;
  model: ModelFolder;
  weightsSha256: string;
  report: Report;
  adapter: LoraAdapter;
  result: Omit<TrainOutcome['result'], 'peak_memory_bytes'> & { evaluation_after: Evaluation | null };
}): Promise<TrainOutcome> {
  const { options, model, report, adapter, result } = trained;
  const peft = adapter.toPeft(model.name);
  checkFinite(peft);
  await writePeftFolder(options.outputFolder, peft, model);
  return {
    base_model: { name: model.name, family: model.architecture.family, weights_sha256: trained.weightsSha256 },
    report,
    lora: { r: peft.r, alpha: peft.alpha, modules: [...peft.modules.keys()] },
    // Linux gives kilobytes.
    result: { ...result, peak_memory_bytes: process.resourceUsage().maxRSS * 1024 },
    versions: { tensorflow: engine.version, kernels: kernelsInUse(), node: process.versions.node },
  };
}

function checkFinite(adapter: PeftAdapter): void {
  for (const [name, { a, b }] of adapter.modules) {
    if (a.every(Number.isFinite) && b.every(Number.isFinite)) continue;
    throw new ProductError('non_finite_loss', `The trained matrices of ${name} hold a number that is not finite.`);
  }
}

/** The adapter to start from; it must adapt exactly the layers the job targets. */
async function initialAdapter(folder: string | null, plan: Plan): Promise<PeftAdapter | undefined> {
  if (folder === null) return undefined;
  const adapter = await readPeftFolder(folder);
  const targets = plan.targets.map(({ name }) => name);
  const missing = targets.filter((name) => !adapter.modules.has(name));
  const further = [...adapter.modules.keys()].filter((name) => !targets.includes(name));
  if (missing.length > 0 || further.length > 0) {
    const which = missing.length > 0 ? `has nothing for ${missing[0]}` : `also adapts ${further[0]}`;
    throw new ProductError('invalid_adapter', `The adapter of init_from ${which}: give the target_modules it has.`, {
      param: 'lora.init_from',
    });
  }
  for (const { name, in_features: inFeatures, out_features: outFeatures } of plan.targets) {
    const module = adapter.modules.get(name)!;
    if (module.inFeatures === inFeatures && module.outFeatures === outFeatures) continue;
    throw new ProductError('invalid_adapter', `The adapter of init_from does not fit ${name} of the base model.`, {
      param: 'lora.init_from',
    });
  }
  return adapter;
}

/** The same for two attempts at the same training, and only then. */
function runId(spec: JobSpec, dataset: Dataset, weightsSha256: string, precision: string): string {
  const { lora, training, validation } = spec;
  const made = JSON.stringify({ lora, training, validation, dataset: dataset.sha256, weightsSha256, precision });
  return createHash('sha256').update(made).digest('hex');
}
