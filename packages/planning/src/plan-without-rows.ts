import {
  type AdapterManifest,
  type JobSpec,
  type MachineProfile,
  ProductError,
  type UploadedDataset,
} from '@lorasmith/contracts';
import {
  digestArchitecture,
  type ModelFolder,
  ModelTexts,
  quantizationOf,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import { chooseTargets } from './choose-targets.js';
import { evaluationFaults, samplePrompts } from './evaluations.js';
import { type CodedFault, FaultList } from './fault-list.js';
import { initialAdapterFaults } from './initial-adapter.js';
import { checkEngineSupports } from './machine-settings.js';
import type { Objective, ObjectiveJob } from './objectives/objective.js';
import { objectiveFor } from './objectives/objectives.js';
import { adapterBytes, type Target, withRanks } from './targets.js';
import { heldOutCount } from './validation-split.js';

export interface PlanInputs {
  spec: JobSpec;
  model: ModelFolder;
  dataset: UploadedDataset;
  /** The dataset that `validation.dataset` names. */
  validation?: { dataset: UploadedDataset } | null;
  /** The manifest of the adapter that `lora.init_from` names. */
  initial?: AdapterManifest | null;
  /** Digest of the base model, hexadecimal, to be compared with that of `initial`. Null if unknown: it is then not compared. */
  weightsSha256?: string | null;
  /** The measurements of the machine that will train; null or left out: its engine is not known. */
  machine?: MachineProfile | null;
  /** Keeps the tokenizer for the next job. @defaultValue one that is needed is loaded for this job */
  texts?: ModelTexts | undefined;
}

/** The part of a job's plan that needs no rows. */
export interface PlanWithoutRows {
  /** The most bytes that the adapter takes once it is published. */
  adapterBytes: number;
}

/**
 * Checks everything of a job that needs no rows: layers, ranks, settings, the adapter to start from, the format of the rows and
 * the size of the validation split, the format of the validation dataset, and the prompts of samples. Without those it takes some milliseconds, whatever the size of
 * the dataset; for prompts, it loads the tokenizer.
 *
 * @throws ProductError as {@link planJob} does for these faults
 */
export async function planWithoutRows(options: PlanInputs): Promise<PlanWithoutRows> {
  const faults = new FaultList();
  const { targets } = await checkWithoutRows(options, faults);
  faults.throwIfAny();
  return { adapterBytes: adapterBytes(options.spec, targets) };
}

/**
 * The parts of a plan that need no rows.
 *
 * @param faults - Receives what is wrong.
 * @returns `model` as the job computes with it; `objective` is null if none fits
 */
export async function checkWithoutRows(
  options: PlanInputs,
  faults: FaultList,
): Promise<{ model: ModelFolder; targets: Target[]; objective: Objective | null; prompts: Int32Array[] }> {
  const { spec, dataset, validation = null, initial = null, weightsSha256 = null, machine = null } = options;
  const { base_quantization: quantization } = spec.training;
  const model = collect(faults, () => withBaseQuantization(options.model, quantization)) ?? options.model;
  if (machine !== null) collect(faults, () => checkEngineSupports(machine.engine.kind, model));
  const layers = collect(faults, () => chooseTargets(model, spec.lora)) ?? [];
  const targets = withRanks(layers, spec.lora, faults);
  faults.add(...dropoutFaults(spec), ...evaluationFaults(spec));
  if (initial && targets.length > 0) {
    const base = {
      name: model.name,
      architecture_sha256: digestArchitecture(model.architecture),
      quantization: quantizationOf(model),
      ...(weightsSha256 === null ? {} : { weights_sha256: weightsSha256 }),
    };
    faults.add(...initialAdapterFaults({ lora: spec.lora, base, targets }, initial));
  }
  collect(faults, () => heldOutCount(dataset.rows, spec.validation.split));
  const objective = collect(faults, () => objectiveFor(model, dataset, spec));
  if (validation !== null)
    collect(faults, () => requireObjective(objective, { spec, model, dataset: validation.dataset }));
  if (objective !== null) faults.add(...objective.settingsFaults({ spec, model, dataset }));
  const { texts = new ModelTexts() } = options;
  const prompts = objective === null ? [] : await samplePrompts({ spec, model, dataset }, { objective, texts, faults });
  return { model, targets, objective, prompts };
}

/** Dropout on the input of A is another product for each expert, so PEFT refuses it, for the layers of such an adapter too. */
function dropoutFaults({ lora }: JobSpec): CodedFault[] {
  if (lora.target_parameters === undefined || lora.dropout === 0) return [];
  const message = `lora.dropout must be 0 with target_parameters, as in PEFT; it is ${lora.dropout}.`;
  return [{ code: 'invalid_job', message, param: 'lora.dropout' }];
}

/** Rows are evaluated on for what the others are trained for. */
function requireObjective(objective: Objective | null, { spec, model, dataset }: ObjectiveJob): void {
  const own = objectiveFor(model, dataset, spec, 'validation.dataset');
  if (objective === null || own === objective) return;
  const message = `The validation dataset has the format ${dataset.format}; the dataset is of ${objective.rows}.`;
  throw new ProductError('dataset_format_mismatch', message, { param: 'validation.dataset' });
}

function collect<Value>(faults: FaultList, work: () => Value): Value | null {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ProductError)) throw error;
    faults.addError(error);
    return null;
  }
}
