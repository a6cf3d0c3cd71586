import type { AdapterManifest } from '@lorasmith/contracts';
import {
  type ModelFolder,
  ModelTexts,
  readModelFolder,
  WeightDigests,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import { type Plan, planJob, type TokenizingProgress } from '@lorasmith/planning';
import { checkEngineHere } from './engine-here.js';
import { readInitialManifest } from './initial-adapter.js';
import type { TrainOptions } from './train-options.js';

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

/**
 * Reads the folder of the base model and the manifest of the initial adapter, and plans the job.
 * @throws ProductError model_*, invalid_adapter, and what planning finds wrong with the data
 */
export async function planRun(options: TrainOptions, disposals: Disposals): Promise<PlannedRun> {
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
