import {
  ADAPTER_FILES,
  AdapterManifest,
  type Job,
  type JobRequest,
  type JobSpec,
  type MachineProfile,
  ProductError,
  type Report,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/job-store';
import { describeModel } from '@lorasmith/model-folder';
import type { BundleStore } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import type { DatasetCatalog } from '../datasets/dataset-catalog.js';
import { jobSpecOf, requestHash } from './job-spec.js';
import type { Preflight } from './preflight.js';

export interface JobSubmissionOptions {
  jobs: Pick<JobStore, 'createJob' | 'machines'>;
  catalog: DatasetCatalog;
  adapters: BundleStore;
  modelsDir: string;
  preflight: Preflight;
}

export interface JobSubmission {
  /**
   * What the job would do; nothing is queued.
   * @throws ProductError with every fault found: `model_not_found`, `dataset_not_found`, `adapter_not_found`,
   * `invalid_adapter`, and what planning throws
   */
  dryRun(request: JobRequest): Promise<Report>;
  /** Queues the job if a dry run of it would succeed. @throws ProductError the same, and `idempotency_conflict` */
  submit(request: JobRequest, idempotencyKey: string | undefined): Promise<Job>;
}

export function createJobSubmission(options: JobSubmissionOptions): JobSubmission {
  const { jobs, catalog, adapters, modelsDir, preflight } = options;

  const check = async (spec: JobSpec, knownMachine: Promise<MachineProfile | null>): Promise<Report> => {
    const [dataset, machine] = await allOf(
      catalog.get(spec.dataset),
      knownMachine,
      describeModel(modelsDir, spec.base_model),
      checkInitialAdapter(adapters, spec),
    );
    return await preflight.report({ spec, modelsDir, dataset, rowsFile: catalog.rowsFile(dataset.id), machine });
  };

  return {
    // Without Redis a dry run has no estimate and tells all the rest.
    dryRun: (request) => check(jobSpecOf(request), jobs.machines.latest().catch(nullWithoutRedis)),
    async submit(request, idempotencyKey) {
      const spec = jobSpecOf(request);
      await check(spec, jobs.machines.latest());
      const { job } = await jobs.createJob(spec, { idempotencyKey, requestHash: requestHash(spec) });
      return job;
    },
  };
}

function nullWithoutRedis(error: unknown): null {
  if (error instanceof ProductError && error.code === 'redis_unavailable') return null;
  throw error;
}

/** All results, or one error that tells of every one that failed. */
async function allOf<Results extends unknown[]>(
  ...promises: { [Index in keyof Results]: Promise<Results[Index]> }
): Promise<Results> {
  const settled = await Promise.allSettled(promises);
  const reasons = settled.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
  const other = reasons.find((reason) => !(reason instanceof ProductError));
  if (other !== undefined) throw other;
  const [first, ...more] = reasons as ProductError[];
  if (first === undefined) return settled.map((result) => (result as PromiseFulfilledResult<unknown>).value) as Results;
  if (more.length === 0) throw first;
  const details = [first, ...more].flatMap(({ code, message, param, details: own }) =>
    own.length > 0 ? own : [{ code, message, ...(param === undefined ? {} : { param }) }],
  );
  throw new ProductError(first.code, `${first.message} That is not all: see details.`, { param: first.param, details });
}

/** Of an adapter to go on from, what can be told from its manifest; its tensors are compared when training begins. */
async function checkInitialAdapter(adapters: BundleStore, { base_model, lora }: JobSpec): Promise<void> {
  const id = lora.init_from;
  if (id === null) return;
  const param = 'lora.init_from';
  if (!(await adapters.has(id))) throw new ProductError('adapter_not_found', `There is no adapter ${id}.`, { param });
  const manifest = await adapters.readJson(id, ADAPTER_FILES.manifest);
  if (!Value.Check(AdapterManifest, manifest)) {
    throw new ProductError('invalid_adapter', `The manifest of ${id} is damaged.`, { param });
  }
  if (manifest.base_model.name !== base_model) {
    const message = `${id} was trained on ${manifest.base_model.name}, not on ${base_model}.`;
    throw new ProductError('invalid_adapter', message, { param });
  }
  if (manifest.lora.r !== lora.r) {
    const message = `${id} has rank ${manifest.lora.r}, the job asks for ${lora.r}: give lora.r ${manifest.lora.r}.`;
    throw new ProductError('invalid_adapter', message, { param: 'lora.r' });
  }
}
