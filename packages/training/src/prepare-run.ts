import type { AdapterManifest, TrainingOutcome } from '@lorasmith/contracts';
import type { LoraAdapter } from '@lorasmith/lora';
import {
  type ModelFolder,
  ModelTexts,
  readModelFolder,
  WeightDigests,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import type { LoadedModel } from '@lorasmith/models';
import { type Plan, planJob, type TokenizingProgress } from '@lorasmith/planning';
import { buildRun } from './build-run.js';
import { checkEngineHere, engineError } from './engine-here.js';
import { readInitialManifest } from './initial-adapter.js';
import type { Participant } from './shared-pass/participant.js';
import { startRun } from './start-run.js';
import type { TrainOptions } from './train.js';
import type { TrainingRun } from './training-run.js';

/** A run that is ready for its next step, with the base model that it trains on. */
export interface PreparedRun {
  run: TrainingRun;
  model: ModelFolder;
  base: LoadedModel;
  adapter: LoraAdapter;
  /** The part of the manifest about base model and data. */
  described: Pick<TrainingOutcome, 'base_model' | 'dataset' | 'validation_dataset' | 'report'>;
  plan: Plan;
  /** Frees all that belongs to the run, and releases the base model. */
  dispose(): Promise<void>;
}

/** Plans the job, finds the checkpoint to resume, loads the base model and sets up adapter and optimizer. */
export async function prepareRun(options: TrainOptions, passes: Participant): Promise<PreparedRun> {
  const disposals = new Disposals();
  let planned: PlannedRun | null = null;
  try {
    planned = await planRun(options, disposals);
    const started = await startRun(options, planned, disposals);
    return await buildRun(options, passes, { ...planned, ...started }, disposals);
  } catch (error) {
    await disposals.dispose();
    throw engineError(error, planned?.plan.settingsForLessMemory() ?? null);
  }
}

/** The plan of a run, before anything of the base model but its folder is read. */
export interface PlannedRun {
  model: ModelFolder;
  texts: ModelTexts;
  digests: WeightDigests;
  initialManifest: AdapterManifest | null;
  /** Digest of the base model's weights, where it is known without reading them. */
  knownWeights: string | null;
  plan: Plan;
}

/** @throws ProductError model_*, invalid_adapter, and what planning finds wrong with the data */
async function planRun(options: TrainOptions, disposals: Disposals): Promise<PlannedRun> {
  const { initialAdapterFolder: initialFolder, texts = new ModelTexts() } = options;
  const folder = await readModelFolder(options.modelFolder);
  const model = withBaseQuantization(folder, options.spec.training.base_quantization);
  checkEngineHere(model);
  const initialManifest = initialFolder === null ? null : await readInitialManifest(initialFolder);
  const digests = options.digests ?? new WeightDigests(null);
  const knownWeights = await digests.known(model);
  const onProgress = ({ rows, totalRows }: TokenizingProgress) =>
    options.onEvent({ type: 'tokenizing-progressed', data: { rows, total_rows: totalRows } });
  const planning = { model, texts, initial: initialManifest, weightsSha256: knownWeights, onProgress };
  const plan = await planJob({ ...options, ...planning });
  disposals.add(() => plan.close());
  return { model, texts, digests, initialManifest, knownWeights, plan };
}

/** Resources that are freed together, the last one first. */
export class Disposals {
  readonly #all: (() => void | Promise<void>)[] = [];

  add(free: () => void | Promise<void>): void {
    this.#all.push(free);
  }

  /** Frees each once, also when it is called again. */
  async dispose(): Promise<void> {
    for (let free = this.#all.pop(); free !== undefined; free = this.#all.pop()) await free();
  }
}
