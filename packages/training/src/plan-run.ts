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

/** An adapter that a training continues, in messages about it. */
export interface ContinuedAdapter {
  /** The subject of a sentence. */
  name: string;
  /** The training, as what its ranks belong to. */
  training: string;
  /** The advice where the adapter is on other layers. */
  remedy: string;
  param?: string;
}

const INIT_FROM: ContinuedAdapter = {
  name: 'The init_from adapter',
  training: 'the job',
  remedy: 'give the target_modules it has',
  param: 'lora.init_from',
};

/**
 * The manifest of an adapter to continue; null for a PEFT folder without one.
 * @throws ProductError invalid_adapter
 */
export async function readInitialManifest(
  folder: string,
  continued: ContinuedAdapter = INIT_FROM,
): Promise<AdapterManifest | null> {
  return await readManifestOfFolder(folder).catch((error: unknown) => {
    const isInvalid = error instanceof ProductError && error.code === 'invalid_adapter';
    throw isInvalid ? invalid(continued, error.message, error) : error;
  });
}

/**
 * The adapter to start from, with the ranks and scales that the job sets. A published adapter has one rank and one scale;
 * {@link cutRank} and {@link withScale} restore those of each layer. It must adapt exactly the targets.
 *
 * @param folder in PEFT's layout
 * @throws ProductError invalid_adapter
 */
export async function readInitialAdapter(
  folder: string,
  targets: readonly Target[],
  continued: ContinuedAdapter = INIT_FROM,
): Promise<PeftAdapter> {
  const adapter = await readPeftFolder(folder);
  const names = new Set(targets.map(({ name }) => name));
  const further = [...adapter.modules.keys()].find((name) => !names.has(name));
  if (further !== undefined) throw unlike(continued, `also adapts ${further}`);
  const modules = new Map(
    targets.map((target) => [target.name, fitted(adapter.modules.get(target.name), target, continued)]),
  );
  return { ...adapter, modules };
}

/**
 * Checks that an adapter to continue was made with these weights. Planning could compare them only if their digest was known.
 * @throws ProductError invalid_adapter
 */
export function requireWeightsOf(
  initial: AdapterManifest,
  { name }: ModelFolder,
  weightsSha256: string,
  continued: ContinuedAdapter = INIT_FROM,
): void {
  const mismatch = baseMismatch(initial.id, initial.base_model, { name, weights_sha256: weightsSha256 });
  if (mismatch !== null) throw invalid(continued, mismatch);
}

function fitted(module: PeftModule | undefined, target: Target, continued: ContinuedAdapter): PeftModule {
  const { name, in_features: inFeatures, out_features: outFeatures, experts, rank, scale } = target;
  if (module === undefined) throw unlike(continued, `has nothing for ${name}`);
  if (module.inFeatures !== inFeatures || module.outFeatures !== outFeatures || module.experts !== experts) {
    throw invalid(continued, `${continued.name} does not fit ${name} of the base model.`);
  }
  if (!module.a.every(Number.isFinite) || !module.b.every(Number.isFinite)) {
    throw invalid(continued, `${continued.name} holds a number for ${name} that is not finite.`);
  }
  const cut = cutRank(module, rank);
  if (cut === null) {
    throw invalid(continued, `${continued.name} has rank ${module.rank} for ${name}, ${continued.training} ${rank}.`);
  }
  return withScale(cut, scale);
}

function unlike(continued: ContinuedAdapter, how: string): ProductError {
  return invalid(continued, `${continued.name} ${how}: ${continued.remedy}.`);
}

function invalid({ param }: ContinuedAdapter, message: string, cause?: unknown): ProductError {
  return new ProductError('invalid_adapter', message, { param, cause });
}
