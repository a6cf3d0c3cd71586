import {
  type AdapterManifest,
  DATASET_FILES,
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
import type { DatasetCatalog } from '../datasets/dataset-catalog.js';
import { goingOn, readInitialAdapter } from './initial-adapter.js';
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

  const check = async (
    request: JobRequest,
    knownMachine: Promise<MachineProfile | null>,
  ): Promise<{ spec: JobSpec; report: Report }> => {
    const [dataset, machine, model, initial] = await allOf(
      catalog.get(request.dataset),
      knownMachine,
      describeModel(modelsDir, request.base_model),
      initialAdapter(adapters, request),
    );
    const spec = jobSpecOf(initial === null ? request : goingOn(request, initial, model));
    const held = await catalog.hold(dataset.id);
    try {
      const rowsFile = held.path(DATASET_FILES.rows);
      return { spec, report: await preflight.report({ spec, modelsDir, dataset, rowsFile, initial, machine }) };
    } finally {
      held.release();
    }
  };

  return {
    // Without Redis a dry run has no estimate and tells all the rest.
    dryRun: async (request) => (await check(request, jobs.machines.latest().catch(nullWithoutRedis))).report,
    async submit(request, idempotencyKey) {
      const { spec } = await check(request, jobs.machines.latest());
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

async function initialAdapter(adapters: BundleStore, { lora }: JobRequest): Promise<AdapterManifest | null> {
  const id = lora?.init_from ?? null;
  return id === null ? null : await readInitialAdapter(adapters, id);
}
