import { SingleFlight } from '@lorasmith/concurrency';
import {
  type Fault,
  type JobRequest,
  type PlannedVariant,
  ProductError,
  type Report,
  type SweepPlan,
  type SweepRequest,
} from '@lorasmith/contracts';
import type { JobStore, NewVariant, SweepRecord } from '@lorasmith/queue';
import type { Caller, Tracing } from '@lorasmith/service-kit';
import { metricOf, shareOfHalving, stepOfRung, type Variant, valuesText, variantsOf } from '@lorasmith/sweeps';
import type { AdapterReservation } from '../access/limits.js';
import { jobLimitsOf } from '../access/limits.js';
import type { DeliveryRequests } from '../deliveries/delivery-requests.js';
import { detailsOf, digestOf, requestHash } from '../jobs/job-inputs.js';
import type { JobSubmission, SubmitOptions } from '../jobs/submit-job.js';
import type { Tried } from '../threads.js';
import { checkWebhooksOf, type WebhookConfig } from '../webhooks/webhook-config.js';

export interface SweepSubmissionOptions {
  sweeps: Pick<JobStore['sweeps'], 'create' | 'repeated'>;
  submission: Pick<JobSubmission, 'checkVariants' | 'planVariants'>;
  webhooks: WebhookConfig;
  deliveries: Pick<DeliveryRequests, 'checkAll'>;
  adapterReservation: AdapterReservation;
  tracing: Tracing;
}

/** The outcome for a variant: a result, or why it cannot run. */
type TriedVariant<Result> = { variant: Variant } & Tried<Result>;

/** Plans sweeps, checks them and queues their jobs. */
export class SweepSubmission {
  readonly #options: SweepSubmissionOptions;
  // Impatient clients repeat slow requests.
  readonly #dryRuns = new SingleFlight<SweepPlan>();

  constructor(options: SweepSubmissionOptions) {
    this.#options = options;
  }

  /**
   * Plans every variant completely, without queuing any.
   * @throws ProductError `invalid_sweep`; the error of a job, if it is that of all variants
   */
  async dryRun(request: SweepRequest, caller: Caller): Promise<SweepPlan> {
    const { submission } = this.#options;
    return await this.#dryRuns.run(JSON.stringify([caller, digestOf(request)]), async () => {
      const tried = await this.#tryAll(request, caller, (jobs) => submission.planVariants(jobs, caller));
      return planOf(tried, request.halving?.first_steps ?? null);
    });
  }

  /**
   * Queues a job for each variant, or none.
   * @throws ProductError `invalid_sweep`; `idempotency_conflict`; the errors of a job
   */
  async submit(
    request: SweepRequest,
    { idempotencyKey, requestId, caller, limits }: SubmitOptions,
  ): Promise<SweepRecord> {
    const { sweeps, submission, adapterReservation, tracing } = this.#options;
    const { owner } = caller;
    const hash = digestOf({ ...request, job: requestHash(request.job) });
    if (idempotencyKey !== undefined) {
      const repeated = await sweeps.repeated({ idempotencyKey, requestHash: hash, owner });
      if (repeated !== null) return repeated;
    }
    const tried = await this.#tryAll(request, caller, (jobs) => submission.checkVariants(jobs, caller));
    throwIfSomeCannotRun(tried);
    const rungStep = request.halving === undefined ? null : stepOfRung(request.halving.first_steps, 0);
    const variants = tried.map(({ variant, result }): NewVariant => {
      const { spec, adapterBytes, planned } = result;
      return { values: variant.values, spec, adapterBytes, planned, rungStep, details: detailsOf(variant.job) };
    });
    const bytes = variants.reduce((sum, { adapterBytes }) => sum + adapterBytes, 0);
    const create = async () => {
      const { sweep } = await sweeps.create(request, variants, {
        idempotencyKey,
        requestHash: hash,
        owner,
        origin: { requestId, trace: tracing.carry() },
        ...jobLimitsOf(limits),
      });
      return sweep;
    };
    return await adapterReservation.within(owner, bytes, limits, create, variants.length);
  }

  /** Plans all variants. @throws ProductError a fault that all variants have, as that of a job */
  async #tryAll<Result>(
    request: SweepRequest,
    caller: Caller,
    plan: (jobs: readonly JobRequest[]) => Promise<Tried<Result>[]>,
  ): Promise<TriedVariant<Result>[]> {
    checkNoDeliveriesOfJobs(request);
    metricOf(request);
    const variants = variantsOf(request);
    // Its message may go elsewhere than those of its jobs.
    checkWebhooksOf({ webhook: request.webhook ?? null }, this.#options.webhooks);
    await this.#options.deliveries.checkAll(request.deliver ?? [], caller, 'invalid_sweep');
    const tried = await plan(variants.map(({ job }) => job)).catch((error: unknown) => {
      if (error instanceof ProductError) throw ofTemplate(error);
      throw error;
    });
    const all = variants.map((variant, index) => ({ variant, ...tried[index]! }));
    for (const one of all) {
      // The fault of a service is no fault of a variant.
      if (hasFailed(one) && one.error.status >= 500) throw one.error;
    }
    throwIfSameForAll(all);
    return all;
  }
}

type Failed = Extract<TriedVariant<never>, { error: ProductError }>;

/** @throws ProductError `invalid_sweep` if each variant would be delivered: they would replace each other */
function checkNoDeliveriesOfJobs({ job }: SweepRequest): void {
  if (job.deliver === undefined) return;
  const message =
    'The variants would replace each other where they are delivered to. Put deliver beside job: then the best one is delivered.';
  throw new ProductError('invalid_sweep', message, { param: 'job.deliver' });
}

function hasFailed<Result>(tried: TriedVariant<Result>): tried is Failed {
  return 'error' in tried;
}

/** A fault of the template is a fault of every variant. It is reported once, as it is for a job. */
function throwIfSameForAll<Result>(tried: TriedVariant<Result>[]): void {
  const [first, ...others] = tried;
  if (first === undefined || !hasFailed(first)) return;
  const { error } = first;
  if (!others.every((one) => hasFailed(one) && one.error.code === error.code && one.error.message === error.message)) {
    return;
  }
  throw ofTemplate(error);
}

/** The fault of a job, as one of the template of a sweep. */
function ofTemplate(error: ProductError): ProductError {
  const param = error.param === undefined ? undefined : `job.${error.param}`;
  return new ProductError(error.code, error.message, { param, details: error.details, cause: error });
}

/** @throws ProductError `invalid_sweep` with the first faults of each variant that cannot run */
function throwIfSomeCannotRun<Result>(
  tried: TriedVariant<Result>[],
): asserts tried is Extract<TriedVariant<Result>, { result: Result }>[] {
  const failed = tried.filter(hasFailed);
  const [first] = failed;
  if (first === undefined) return;
  const details = failed.map(({ variant: { values }, error }): Fault => {
    const { code, message, param } = error;
    return { code, message: `${valuesText(values)}: ${message}`, ...(param === undefined ? {} : { param }) };
  });
  const many = failed.length === 1 ? 'One of the variants' : `${failed.length} of the ${tried.length} variants`;
  const message = `${many} cannot run, so nothing is queued. ${details[0]!.message} Leave such variants out with exclude.`;
  throw new ProductError('invalid_sweep', message, { param: 'space', details });
}

function planOf(tried: TriedVariant<Report>[], firstSteps: number | null): SweepPlan {
  const reports = tried.flatMap((one) => (hasFailed(one) ? [] : [one.result]));
  const estimates = reports.flatMap(({ estimate }) => estimate ?? []);
  const share = ({ steps }: Report) =>
    firstSteps === null ? 1 : shareOfHalving(reports.length, steps.total, firstSteps);
  const isKnown = reports.length > 0 && estimates.length === reports.length;
  return {
    jobs: reports.length,
    variants: tried.map(plannedVariant),
    tokens: Math.round(reports.reduce((sum, report) => sum + report.tokens.total * share(report), 0)),
    seconds: isKnown ? reports.reduce((sum, report) => sum + report.estimate!.total_seconds * share(report), 0) : null,
    ...(isKnown ? together(estimates) : { at_once: null, peak_memory_bytes: null }),
  };
}

/** The base model is in memory once: the first variant counts with it, each further one with what it adds. */
function together(estimates: NonNullable<Report['estimate']>[]): Pick<SweepPlan, 'at_once' | 'peak_memory_bytes'> {
  const largest = estimates.toSorted((one, other) => other.peak_memory_bytes - one.peak_memory_bytes);
  let [bytes, count] = [0, 0];
  for (const { peak_memory_bytes: alone, added_memory_bytes: added, available_memory_bytes: available } of largest) {
    const more = count === 0 ? alone : added;
    if (count > 0 && bytes + more > available) break;
    bytes += more;
    count++;
  }
  return { at_once: count, peak_memory_bytes: bytes };
}

function plannedVariant(tried: TriedVariant<Report>): PlannedVariant {
  const { variant, values } = tried.variant;
  const nothing = { steps: null, tokens: null, seconds: null, peak_memory_bytes: null };
  if (hasFailed(tried)) {
    const { code, message, details } = tried.error;
    return { variant, values, ...nothing, error: { code, message, details } };
  }
  const { steps, tokens, estimate } = tried.result;
  return {
    variant,
    values,
    steps: steps.total,
    tokens: tokens.total,
    seconds: estimate?.total_seconds ?? null,
    peak_memory_bytes: estimate?.peak_memory_bytes ?? null,
    error: null,
  };
}
