import { datasetNotFound } from '@lorasmith/artifacts';
import type { ModelSource } from '@lorasmith/base-models';
import { SingleFlight } from '@lorasmith/concurrency';
import {
  type AdapterManifest,
  DATASET_FILES,
  type Job,
  type JobRequest,
  type JobSpec,
  type MachineProfile,
  type Owner,
  ProductError,
  type Report,
  type UploadedDataset,
} from '@lorasmith/contracts';
import type { JobStore, PlannedWork } from '@lorasmith/queue';
import { type Caller, mayUse, type Tracing } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import { type AccessLimits, jobLimitsOf } from '../access/limits.js';
import type { DatasetCatalog } from '../datasets/dataset-catalog.js';
import type { TokenPreparations } from '../datasets/token-preparations.js';
import { checkWebhooksOf, type WebhookConfig } from '../webhooks/webhook-config.js';
import type { AdapterReservation } from './adapter-reservation.js';
import { continuing, initialManifestOf } from './initial-adapter.js';
import { datasetsOf, inValidation } from './job-datasets.js';
import { detailsOf, jobSpecOf, requestHash } from './job-spec.js';
import type { Preflight } from './preflight.js';
import type { PlannedJobs } from './preflight-tasks.js';
import { resultOf, type Tried, trying } from './tried.js';

export interface JobSubmissionOptions {
  jobs: Pick<JobStore, 'createJob' | 'repeatedJob' | 'machines'>;
  catalog: DatasetCatalog;
  adapters: BundleStore;
  baseModels: ModelSource;
  preflight: Pick<Preflight, 'report' | 'check'>;
  preparations: Pick<TokenPreparations, 'running'>;
  adapterReservation: AdapterReservation;
  tracing: Tracing;
  webhooks: WebhookConfig;
  /** The memory of the largest machine that would be started if a job needed it, in bytes; null: none is. */
  startedMemory: number | null;
}

export interface SubmitOptions {
  idempotencyKey: string | undefined;
  /** Id of the HTTP request. The log of the worker contains it too. */
  requestId: string;
  /** The owner of the job. */
  caller: Caller;
  limits: AccessLimits;
}

/** A job that may be queued. */
export interface CheckedJob {
  spec: JobSpec;
  adapterBytes: number;
  planned: PlannedWork | undefined;
}

export interface JobSubmission {
  /**
   * The checks of {@link submit} for the variants of a sweep, without queuing them. They differ in `lora`, `training` and `objective`
   * alone; what else they name is looked up once.
   * @throws ProductError faults that all have in common
   */
  checkVariants(requests: readonly JobRequest[], caller: Caller): Promise<Tried<CheckedJob>[]>;
  /** {@link dryRun} for the variants of a sweep, as {@link checkVariants}. @throws ProductError the same */
  planVariants(requests: readonly JobRequest[], caller: Caller): Promise<Tried<Report>[]>;
  /**
   * Plans the job completely, without queuing it.
   * @throws ProductError with every fault found: `model_not_found`, `dataset_not_found`, `adapter_not_found`,
   * `invalid_adapter`, and the errors of planning
   */
  dryRun(request: JobRequest, caller: Caller): Promise<Report>;
  /**
   * Queues the job after the checks that take a short time; see {@link Preflight.check}. What remains, its trainer checks first.
   * @throws ProductError the same, and `idempotency_conflict`, `quota_exceeded`, `queue_full`, `storage_full`
   */
  submit(request: JobRequest, options: SubmitOptions): Promise<Job>;
}

export function createJobSubmission(options: JobSubmissionOptions): JobSubmission {
  const { jobs, catalog, adapters, baseModels, preflight, preparations, adapterReservation, tracing, webhooks } =
    options;
  const machineToPlan = () => jobs.machines.forPlanning(options.startedMemory);

  /** Has the preflight plan jobs that differ in their settings alone, with everything that they name. */
  const preflightOf = async <Result>(
    requests: readonly JobRequest[],
    caller: Caller,
    knownMachine: Promise<MachineProfile | null>,
    plan: (jobs: PlannedJobs, owner: Owner) => Promise<Tried<Result>[]>,
  ): Promise<Tried<{ spec: JobSpec; result: Result }>[]> => {
    const request = requests[0]!;
    checkWebhooksOf(request, webhooks);
    const [dataset, ofValidation, machine, model, initial] = await allOf(
      ownDataset(catalog, request.dataset, caller),
      validationDataset(catalog, request, caller),
      knownMachine,
      baseModels.describe(request.base_model),
      initialAdapter(adapters, request, caller),
    );
    const specs = requests.map((one) =>
      trying(() => jobSpecOf(initial === null ? one : continuing(one, initial, model))),
    );
    const valid = specs.flatMap((one) => ('error' in one ? [] : [one.result]));
    if (valid.length === 0) return specs as Extract<(typeof specs)[number], { error: ProductError }>[];
    const held: { release(): void }[] = [];
    const rowsOf = async ({ id }: UploadedDataset) => {
      const folder = await catalog.hold(id);
      held.push(folder);
      return folder.path(DATASET_FILES.rows);
    };
    try {
      const outline = await baseModels.holdOutline(request.base_model);
      held.push(outline);
      const rowsFile = await rowsOf(dataset);
      const validation = ofValidation && { dataset: ofValidation, rowsFile: await rowsOf(ofValidation) };
      const shared = { modelsDir: outline.modelsDir, dataset, rowsFile, validation, initial, machine };
      const planned = await tracing.span('plan job', {}, () => plan({ specs: valid, ...shared }, caller.owner));
      let next = 0;
      return specs.map((one) => {
        const tried = 'error' in one ? one : planned[next++]!;
        return 'error' in tried ? tried : { result: { spec: resultOf(one), result: tried.result } };
      });
    } finally {
      for (const one of held) one.release();
    }
  };

  const check = async (requests: readonly JobRequest[], caller: Caller): Promise<Tried<CheckedJob>[]> => {
    const checked = await preflightOf(requests, caller, machineToPlan(), preflight.check);
    // A dataset may have been deleted meanwhile. The job store detects a deletion after this check.
    await ownDataset(catalog, requests[0]!.dataset, caller);
    await validationDataset(catalog, requests[0]!, caller);
    return checked.map((one) => {
      if ('error' in one) return one;
      const { spec, result } = one.result;
      return { result: { spec, adapterBytes: result.adapterBytes, planned: result.planned } };
    });
  };

  const report = async (requests: readonly JobRequest[], caller: Caller): Promise<Tried<Report>[]> => {
    // Without Redis, a dry run only lacks the estimate.
    const machine = machineToPlan().catch(nullWithoutRedis);
    const planned = await preflightOf(requests, caller, machine, async (known, owner) => {
      // It makes the tokens that planning would make at the same time.
      for (const { id } of datasetsOf(known)) await preparations.running(id, requests[0]!.base_model);
      return await preflight.report(known, owner);
    });
    return planned.map((one) => ('error' in one ? one : { result: one.result.result }));
  };

  const submitNow = async (
    request: JobRequest,
    hash: string,
    { idempotencyKey, requestId, caller, limits }: SubmitOptions,
  ): Promise<Job> => {
    const { owner } = caller;
    if (idempotencyKey !== undefined) {
      // Before the job is planned, which takes time and may fail now although it succeeded the first time.
      const repeated = await jobs.repeatedJob({ idempotencyKey, requestHash: hash, owner });
      if (repeated !== null) return repeated;
    }
    const [checked] = await check([request], caller);
    const { spec, adapterBytes, planned } = resultOf(checked!);
    return await adapterReservation.within(owner, adapterBytes, limits, () =>
      tracing.span('queue job', { kind: 'producer' }, async () => {
        const { job } = await jobs.createJob(spec, {
          idempotencyKey,
          requestHash: hash,
          origin: { requestId, trace: tracing.carry() },
          owner,
          adapterBytes,
          planned,
          details: detailsOf(request),
          ...jobLimitsOf(limits),
        });
        return job;
      }),
    );
  };

  // Impatient clients repeat slow requests.
  const dryRuns = new SingleFlight<Report>();
  const submissions = new SingleFlight<Job>();
  return {
    checkVariants: check,
    planVariants: report,
    dryRun: (request, caller) =>
      dryRuns.run(JSON.stringify([caller, requestHash(request)]), async () =>
        resultOf((await report([request], caller))[0]!),
      ),
    submit(request, options) {
      const hash = requestHash(request);
      const { idempotencyKey, caller } = options;
      const submit = () => submitNow(request, hash, options);
      // Without an idempotency key, two requests create two jobs.
      return idempotencyKey === undefined
        ? submit()
        : submissions.run(JSON.stringify([caller, hash, idempotencyKey]), submit);
    },
  };
}

/** The dataset, if the caller may use it. */
async function ownDataset(catalog: DatasetCatalog, id: string, caller: Caller): Promise<UploadedDataset> {
  const dataset = await catalog.uploaded(id);
  if (mayUse(caller, dataset.owner)) return dataset;
  throw datasetNotFound(id);
}

/** The dataset that the job is evaluated on, if it names one. */
async function validationDataset(
  catalog: DatasetCatalog,
  { validation }: JobRequest,
  caller: Caller,
): Promise<UploadedDataset | null> {
  const id = validation?.dataset ?? null;
  return id === null ? null : await ownDataset(catalog, id, caller).catch(inValidation);
}

function nullWithoutRedis(error: unknown): null {
  if (error instanceof ProductError && error.code === 'redis_unavailable') return null;
  throw error;
}

/** All results, or one error with all faults. */
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
  throw new ProductError(first.code, `${first.message} There are more faults: see details.`, {
    param: first.param,
    details,
  });
}

async function initialAdapter(
  adapters: BundleStore,
  { lora }: JobRequest,
  caller: Caller,
): Promise<AdapterManifest | null> {
  const id = lora?.init_from ?? null;
  return id === null ? null : await initialManifestOf(adapters, id, caller);
}
