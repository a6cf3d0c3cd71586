import { SingleFlight } from '@lorasmith/concurrency';
import {
  type Job,
  type JobRequest,
  type JobSpec,
  type MachineProfile,
  ProductError,
  type Report,
} from '@lorasmith/contracts';
import type { JobStore, PlannedWork } from '@lorasmith/queue';
import type { Caller, Tracing } from '@lorasmith/service-kit';
import type { AdapterReservation } from '../access/limits.js';
import { type AccessLimits, jobLimitsOf } from '../access/limits.js';
import type { DatasetCatalog } from '../datasets/dataset-catalog.js';
import type { TokenPreparations } from '../datasets/token-preparations.js';
import type { DeliveryRequests } from '../deliveries/delivery-requests.js';
import type { Judges } from '../grading/judges.js';
import { resultOf, type Tried, trying } from '../threads.js';
import { checkWebhooksOf, type WebhookConfig } from '../webhooks/webhook-config.js';
import { checkDatasets, detailsOf, type JobInputSources, JobInputs, requestHash } from './job-inputs.js';
import type { Preflight } from './preflight.js';
import { datasetsOf, type PlannedJobs } from './preflight-tasks.js';

export interface JobSubmissionOptions extends JobInputSources {
  jobs: Pick<JobStore, 'createJob' | 'repeatedJob' | 'machines'>;
  catalog: DatasetCatalog;
  preflight: Pick<Preflight, 'report' | 'check'>;
  preparations: Pick<TokenPreparations, 'running'>;
  adapterReservation: AdapterReservation;
  tracing: Tracing;
  webhooks: WebhookConfig;
  judges: Pick<Judges, 'check'>;
  deliveries: Pick<DeliveryRequests, 'checkAll'>;
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

/** Plans jobs, checks them and queues them. */
export class JobSubmission {
  readonly #options: JobSubmissionOptions;
  // Impatient clients repeat slow requests.
  readonly #dryRuns = new SingleFlight<Report>();
  readonly #submissions = new SingleFlight<Job>();

  constructor(options: JobSubmissionOptions) {
    this.#options = options;
  }

  /**
   * Queues the job after the checks that take a short time; see {@link Preflight.check}. What remains, its trainer checks first.
   * @throws ProductError as {@link dryRun}, and `idempotency_conflict`, `quota_exceeded`, `queue_full`, `storage_full`
   */
  async submit(request: JobRequest, options: SubmitOptions): Promise<Job> {
    const hash = requestHash(request);
    const { idempotencyKey, caller } = options;
    const submit = () => this.#submitNow(request, hash, options);
    // Without an idempotency key, two requests create two jobs.
    if (idempotencyKey === undefined) return await submit();
    return await this.#submissions.run(JSON.stringify([caller, hash, idempotencyKey]), submit);
  }

  /**
   * Plans the job completely, without queuing it.
   * @throws ProductError with every fault found: `model_not_found`, `dataset_not_found`, `adapter_not_found`,
   * `invalid_adapter`, and the errors of planning
   */
  async dryRun(request: JobRequest, caller: Caller): Promise<Report> {
    return await this.#dryRuns.run(JSON.stringify([caller, requestHash(request)]), async () => {
      const [report] = await this.planVariants([request], caller);
      return resultOf(report!);
    });
  }

  /**
   * The checks of {@link submit} for the variants of a sweep, without queuing them. They differ in `lora`, `training` and `objective`
   * alone; what else they name is looked up once.
   * @throws ProductError faults that all have in common
   */
  async checkVariants(requests: readonly JobRequest[], caller: Caller): Promise<Tried<CheckedJob>[]> {
    const { catalog, preflight } = this.#options;
    const machineToPlan = () => this.#machineToPlan();
    const checked = await this.#plan(requests, caller, machineToPlan, async (jobs) =>
      (await preflight.check(jobs, caller.owner)).map((one, index): Tried<CheckedJob> => {
        if ('error' in one) return one;
        const { adapterBytes, planned } = one.result;
        return { result: { spec: jobs.specs[index]!, adapterBytes, planned } };
      }),
    );
    // A dataset may have been deleted meanwhile. The job store detects a deletion after this check.
    await checkDatasets(catalog, requests[0]!, caller);
    return checked;
  }

  /** {@link dryRun} for the variants of a sweep, as {@link checkVariants}. @throws ProductError the same */
  async planVariants(requests: readonly JobRequest[], caller: Caller): Promise<Tried<Report>[]> {
    const { preflight, preparations } = this.#options;
    // Without Redis, a dry run only lacks the estimate.
    const machine = () => this.#machineToPlan().catch(nullWithoutRedis);
    return await this.#plan(requests, caller, machine, async (jobs) => {
      // It makes the tokens that planning would make at the same time.
      for (const { id } of datasetsOf(jobs)) await preparations.running(id, requests[0]!.base_model);
      return await preflight.report(jobs, caller.owner);
    });
  }

  async #submitNow(
    request: JobRequest,
    hash: string,
    { idempotencyKey, requestId, caller, limits }: SubmitOptions,
  ): Promise<Job> {
    const { jobs, adapterReservation, tracing } = this.#options;
    const { owner } = caller;
    if (idempotencyKey !== undefined) {
      // Before the job is planned, which takes time and may fail now although it succeeded the first time.
      const repeated = await jobs.repeatedJob({ idempotencyKey, requestHash: hash, owner });
      if (repeated !== null) return repeated;
    }
    const [checked] = await this.checkVariants([request], caller);
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
  }

  /** Plans jobs that differ in their settings alone, as far as their settings are valid, with everything that they name. */
  async #plan<Result>(
    requests: readonly JobRequest[],
    caller: Caller,
    machine: () => Promise<MachineProfile | null>,
    plan: (jobs: PlannedJobs) => Promise<Tried<Result>[]>,
  ): Promise<Tried<Result>[]> {
    const { tracing, webhooks, judges, deliveries } = this.#options;
    checkWebhooksOf(requests[0]!, webhooks);
    await deliveries.checkAll(requests[0]!.deliver ?? [], caller, 'invalid_job');
    await judges.check(requests[0]!, caller);
    const inputs = await JobInputs.of(requests[0]!, caller, this.#options, machine());
    const tried = requests.map((one) => trying(() => inputs.specOf(one)));
    const specs = tried.flatMap((one) => ('error' in one ? [] : [one.result]));
    const planned =
      specs.length === 0
        ? []
        : await inputs.leased((leased) => tracing.span('plan job', {}, () => plan({ specs, ...leased })));
    let next = 0;
    return tried.map((one) => ('error' in one ? one : planned[next++]!));
  }

  /** The profile of the machine that jobs are planned for. @throws ProductError `redis_unavailable` */
  async #machineToPlan(): Promise<MachineProfile | null> {
    const { jobs, startedMemory } = this.#options;
    return await jobs.machines.forPlanning(startedMemory);
  }
}

function nullWithoutRedis(error: unknown): null {
  if (error instanceof ProductError && error.code === 'redis_unavailable') return null;
  throw error;
}
