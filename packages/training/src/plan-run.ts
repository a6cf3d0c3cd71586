import { readManifestOfFolder } from '@lorasmith/artifacts';
import { type AdapterManifest, ProductError } from '@lorasmith/contracts';
import {
  baseMismatch,
  type ModelFolder,
  ModelTexts,
  readModelFolder,
  WeightDigests,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import { cutRank, type PeftAdapter, type PeftModule, readPeftFolder, withScale } from '@lorasmith/peft-files';
import { type Plan, planJob, type Target, type TokenizingProgress } from '@lorasmith/planning';
import { checkEngineHere } from './engine-here.js';
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

const PARAM = 'lora.init_from';

/**
 * The manifest of the adapter to start from; null for a PEFT folder without one.
 * @throws ProductError invalid_adapter
 */
async function readInitialManifest(folder: string): Promise<AdapterManifest | null> {
  return await readManifestOfFolder(folder).catch((error: unknown) => {
    throw error instanceof ProductError && error.code === 'invalid_adapter' ? invalid(error.message, error) : error;
  });
}

/**
 * The adapter to start from, with the ranks and scales that the job sets. A published adapter has one rank and one scale;
 * {@link cutRank} and {@link withScale} restore those of each layer. It must adapt exactly the targets.
 *
 * @param folder in PEFT's layout
 * @throws ProductError invalid_adapter
 */
export async function readInitialAdapter(folder: string, targets: readonly Target[]): Promise<PeftAdapter> {
  const adapter = await readPeftFolder(folder);
  const names = new Set(targets.map(({ name }) => name));
  const further = [...adapter.modules.keys()].find((name) => !names.has(name));
  if (further !== undefined) throw unlike(`also adapts ${further}`);
  const modules = new Map(targets.map((target) => [target.name, fitted(adapter.modules.get(target.name), target)]));
  return { ...adapter, modules };
}

/**
 * Checks that the initial adapter was made with these weights. Planning could compare them only if their digest was known.
 * @throws ProductError invalid_adapter
 */
export function requireWeightsOf(initial: AdapterManifest, { name }: ModelFolder, weightsSha256: string): void {
  const mismatch = baseMismatch(initial.id, initial.base_model, { name, weights_sha256: weightsSha256 });
  if (mismatch !== null) throw new ProductError('invalid_adapter', mismatch, { param: 'lora.init_from' });
}

function fitted(module: PeftModule | undefined, target: Target): PeftModule {
  const { name, in_features: inFeatures, out_features: outFeatures, experts, rank, scale } = target;
  if (module === undefined) throw unlike(`has nothing for ${name}`);
  if (module.inFeatures !== inFeatures || module.outFeatures !== outFeatures || module.experts !== experts) {
    throw invalid(`The init_from adapter does not fit ${name} of the base model.`);
  }
  if (!module.a.every(Number.isFinite) || !module.b.every(Number.isFinite)) {
    throw invalid(`The init_from adapter holds a number for ${name} that is not finite.`);
  }
  const cut = cutRank(module, rank);
  if (cut === null) throw invalid(`The init_from adapter has rank ${module.rank} for ${name}, the job ${rank}.`);
  return withScale(cut, scale);
}

function unlike(how: string): ProductError {
  return invalid(`The init_from adapter ${how}: give the target_modules it has.`);
}

function invalid(message: string, cause?: unknown): ProductError {
  return new ProductError('invalid_adapter', message, { param: PARAM, cause });
}
