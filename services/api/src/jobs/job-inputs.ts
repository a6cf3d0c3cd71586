import { createHash } from 'node:crypto';
import { type AliasStore, datasetNotFound, readManifest } from '@lorasmith/artifacts';
import type { ModelSource } from '@lorasmith/base-models';
import {
  type AdapterManifest,
  type BaseModelDetail,
  JobRequest,
  JobSpec,
  type MachineProfile,
  type OwnDetails,
  objectiveContract,
  objectiveOf,
  ProductError,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { baseMismatch } from '@lorasmith/model-folder';
import { inheritLora } from '@lorasmith/planning';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import type { DatasetCatalog } from '../datasets/dataset-catalog.js';
import { withLeases } from '../datasets/file-leases.js';
import type { PlannedJobs } from './preflight-tasks.js';

export interface JobInputSources {
  catalog: Pick<DatasetCatalog, 'uploaded' | 'lease'>;
  adapters: BundleStore;
  aliases: Pick<AliasStore, 'adapterOf'>;
  baseModels: Pick<ModelSource, 'describe' | 'leaseWithoutWeights'>;
}

/** The inputs of a job as planning takes them. */
export type LeasedInputs = Omit<PlannedJobs, 'specs'>;

interface Found {
  request: Pick<JobRequest, 'base_model'>;
  dataset: UploadedDataset;
  validation: UploadedDataset | null;
  machine: MachineProfile | null;
  model: BaseModelDetail;
  initial: AdapterManifest | null;
}

/** The datasets, the base model and the adapter that a job names. Its caller may use them. */
export class JobInputs {
  readonly #sources: JobInputSources;
  readonly #found: Found;

  private constructor(sources: JobInputSources, found: Found) {
    this.#sources = sources;
    this.#found = found;
  }

  /**
   * Looks up everything that a request names.
   * @param machine - The profile of the machine that is planned for
   * @throws ProductError with every fault found: `model_not_found`, `dataset_not_found`, `adapter_not_found`, `invalid_adapter`; the error of
   * `machine`
   */
  static async of(
    request: JobRequest,
    caller: Caller,
    sources: JobInputSources,
    machine: Promise<MachineProfile | null>,
  ): Promise<JobInputs> {
    const { catalog, baseModels } = sources;
    const lookUps = [
      ownDataset(catalog, request.dataset, caller),
      validationDataset(catalog, request, caller),
      machine,
      baseModels.describe(request.base_model),
      initialManifest(sources, request, caller),
    ] as const;
    throwFaultsOf(await Promise.allSettled(lookUps));
    const [dataset, validation, profile, model, initial] = await Promise.all(lookUps);
    return new JobInputs(sources, { request, dataset, validation, machine: profile, model, initial });
  }

  /** The spec of a request that names these inputs. @throws ProductError `invalid_adapter` */
  specOf(request: JobRequest): JobSpec {
    const { initial, model } = this.#found;
    return jobSpecOf(initial === null ? request : continuing(request, initial, model));
  }

  /** Leases the files while `work` reads them. @throws ProductError `dataset_not_found`, `model_not_found`; errors of `work` */
  async leased<Result>(work: (inputs: LeasedInputs) => Promise<Result>): Promise<Result> {
    const { request, dataset, validation: ofValidation, machine, initial } = this.#found;
    return await withLeases(this.#sources, async (leases) => {
      const modelsDir = await leases.modelsDir(request.base_model);
      const rowsFile = await leases.rowsFile(dataset);
      const validation = ofValidation && { dataset: ofValidation, rowsFile: await leases.rowsFile(ofValidation) };
      return await work({ modelsDir, dataset, rowsFile, validation, initial, machine });
    });
  }
}

/** Checks that the datasets of a job are there, and that the caller may use them. @throws ProductError `dataset_not_found` */
export async function checkDatasets(
  catalog: JobInputSources['catalog'],
  request: JobRequest,
  caller: Caller,
): Promise<void> {
  await ownDataset(catalog, request.dataset, caller);
  await validationDataset(catalog, request, caller);
}

/** An error with the field that names the validation dataset. */
export function inValidation(error: unknown): never {
  if (!(error instanceof ProductError) || error.code !== 'dataset_not_found') throw error;
  throw new ProductError(error.code, error.message, { param: 'validation.dataset', cause: error });
}

/** The dataset, if the caller may use it. */
async function ownDataset(catalog: JobInputSources['catalog'], id: string, caller: Caller): Promise<UploadedDataset> {
  const dataset = await catalog.uploaded(id);
  if (mayUse(caller, dataset.owner)) return dataset;
  throw datasetNotFound(id);
}

/** The dataset that the job is evaluated on; null if it names none. */
async function validationDataset(
  catalog: JobInputSources['catalog'],
  { validation }: JobRequest,
  caller: Caller,
): Promise<UploadedDataset | null> {
  const id = validation?.dataset ?? null;
  return id === null ? null : await ownDataset(catalog, id, caller).catch(inValidation);
}

const INIT_FROM = 'lora.init_from';

/**
 * The manifest of the adapter that a job starts from; null if it names none.
 * @throws ProductError `adapter_not_found`, also for one that the caller may not use; `invalid_adapter`
 */
async function initialManifest(
  { adapters, aliases }: Pick<JobInputSources, 'adapters' | 'aliases'>,
  { lora }: JobRequest,
  caller: Caller,
): Promise<AdapterManifest | null> {
  const given = lora?.init_from ?? null;
  if (given === null) return null;
  const id = (await aliases.adapterOf(given, caller.owner)) ?? given;
  return await readManifest(adapters, id, { isAllowed: (owner) => mayUse(caller, owner) }).catch((error: unknown) => {
    if (!(error instanceof ProductError) || !['adapter_not_found', 'invalid_adapter'].includes(error.code)) throw error;
    throw new ProductError(error.code, error.message, { param: INIT_FROM, cause: error });
  });
}

/**
 * Fills in the rank, alpha, patterns and layers of the adapter that the job continues. Planning checks that fields in the
 * request have the same values as the adapter.
 * @throws ProductError `invalid_adapter` for an adapter of another base model, or with settings that are invalid for a job
 */
function continuing(request: JobRequest, initial: AdapterManifest, model: BaseModelDetail): JobRequest {
  const mismatch = baseMismatch(initial.id, initial.base_model, { name: request.base_model });
  if (mismatch !== null) throw new ProductError('invalid_adapter', mismatch, { param: INIT_FROM });
  const [layers, parameters] = [model.modules, model.expert_parameters].map((parts) => parts.map(({ name }) => name));
  const base = { layers: layers!, parameters: parameters! };
  // A name may move, and the job continues this adapter.
  const lora = { ...inheritLora(request.lora ?? {}, initial, base), init_from: initial.id };
  const complete: JobRequest = { ...request, lora };
  if (Value.Check(JobRequest, complete)) return complete;
  const [fault] = Value.Errors(JobRequest, complete);
  const message = `${initial.id} cannot be trained further: its ${fault?.instancePath.slice(1).replaceAll('/', '.')} ${fault?.message}.`;
  throw new ProductError('invalid_adapter', message, { param: INIT_FROM });
}

/** @throws ProductError with the faults of all look-ups that were rejected; first, an error that is no fault of a request */
function throwFaultsOf(settled: readonly PromiseSettledResult<unknown>[]): void {
  const reasons = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  const faults = reasons.filter((reason) => reason instanceof ProductError);
  if (faults.length < reasons.length) throw reasons.find((reason) => !(reason instanceof ProductError));
  const [first] = faults;
  if (first === undefined) return;
  if (faults.length === 1) throw first;
  const details = faults.flatMap(({ code, message, param, details: own }) =>
    own.length > 0 ? own : [{ code, message, ...(param === undefined ? {} : { param }) }],
  );
  const message = `${first.message} There are more faults: see details.`;
  throw new ProductError(first.code, message, { param: first.param, details });
}

/** The request with every default filled in and its fields in the order of the schema. */
export function jobSpecOf({ metadata = {}, tags: _tags, note: _note, ...request }: JobRequest): JobSpec {
  const { validation = {}, lora = {} } = request;
  const { objective, training } = withObjective(request);
  const given = { ...request, validation, lora, ...objective, training };
  const filled = Value.Default(JobSpec, structuredClone(given)) as JobSpec;
  // metadata has no nested defaults, and `Default` would count its keys in UTF-16 units instead of characters.
  return Value.Parse(JobSpec, { ...filled, metadata });
}

/** The tags and the note of a request: they are in the job's record, and no part of its spec. */
export function detailsOf({ tags = [], note = null }: JobRequest): OwnDetails {
  return { tags, note };
}

/** The defaults that depend on the objective. */
function withObjective({ objective, training = {} }: Omit<JobRequest, 'metadata'>) {
  if (objective === undefined) return { training };
  return {
    objective: { objective: objectiveOf(objective) },
    training: { ...objectiveContract(objective.kind).training, ...training },
  };
}

/**
 * A digest that is the same for requests with the same meaning: a missing field counts as its default, and the order of
 * fields does not matter. With `init_from` the defaults come from the adapter, which may have been deleted, so the request
 * is hashed as it is.
 */
export function requestHash(request: JobRequest): string {
  const { tags, note } = detailsOf(request);
  const details = { ...(tags.length === 0 ? {} : { tags }), ...(note === null ? {} : { note }) };
  return digestOf(request.lora?.init_from ? request : { ...jobSpecOf(request), ...details });
}

/** The sha256 of JSON, whatever the order of its fields. */
export function digestOf(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, node: unknown) => {
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return node;
    return Object.fromEntries(Object.entries(node).sort(([one], [other]) => (one < other ? -1 : 1)));
  });
}
