import {
  type Fault,
  type PlannedVariant,
  ProductError,
  type Report,
  type SweepPlan,
  type SweepRequest,
} from '@lorasmith/contracts';
import type { JobStore, NewVariant, SweepRecord } from '@lorasmith/job-store';
import type { Caller, Tracing } from '@lorasmith/service-kit';
import { metricOf, shareOfHalving, stepOfRung, type Variant, valuesText, variantsOf } from '@lorasmith/sweeps';
import { jobLimitsOf } from '../access/limits.js';
import type { AdapterReservation } from '../jobs/adapter-reservation.js';
import { digestOf, requestHash } from '../jobs/job-spec.js';
import type { JobSubmission, SubmitOptions } from '../jobs/submit-job.js';

export interface SweepSubmissionOptions {
  sweeps: Pick<JobStore['sweeps'], 'create' | 'repeated'>;
  submission: Pick<JobSubmission, 'check' | 'dryRun'>;
  adapterReservation: AdapterReservation;
  tracing: Tracing;
}

export interface SweepSubmission {
  /**
   * Plans every variant completely, without queuing any.
   * @throws ProductError `invalid_sweep`; the error of a job, if it is that of all variants
   */
  dryRun(request: SweepRequest, caller: Caller): Promise<SweepPlan>;
  /**
   * Queues a job for each variant, or none.
   * @throws ProductError `invalid_sweep`; `idempotency_conflict`; the errors of a job
   */
  submit(request: SweepRequest, options: SubmitOptions): Promise<SweepRecord>;
}

/** The outcome for a variant: a result, or why it cannot run. */
type Tried<Result> = { variant: Variant; result: Result } | { variant: Variant; error: ProductError };

export function createSweepSubmission(options: SweepSubmissionOptions): SweepSubmission {
  const { sweeps, submission, adapterReservation, tracing } = options;

  /** One after the other: the threads that plan are few, and the first variant stores the tokens for all. */
  const tryEach = async <Result>(
    variants: Variant[],
    plan: (variant: Variant) => Promise<Result>,
  ): Promise<Tried<Result>[]> => {
    const tried: Tried<Result>[] = [];
    for (const variant of variants) {
      try {
        tried.push({ variant, result: await plan(variant) });
      } catch (error) {
        // The fault of a service is no fault of a variant.
        if (!(error instanceof ProductError) || error.status >= 500) throw error;
        tried.push({ variant, error });
      }
    }
    throwIfSameForAll(tried);
    return tried;
  };

  return {
    async dryRun(request, caller) {
      metricOf(request);
      const tried = await tryEach(variantsOf(request), ({ job }) => submission.dryRun(job, caller));
      return planOf(tried, request.halving?.first_steps ?? null);
    },

    async submit(request, { idempotencyKey, requestId, caller, limits }) {
      const { owner } = caller;
      const hash = digestOf({ ...request, job: requestHash(request.job) });
      if (idempotencyKey !== undefined) {
        const repeated = await sweeps.repeated({ idempotencyKey, requestHash: hash, owner });
        if (repeated !== null) return repeated;
      }
      metricOf(request);
      const tried = await tryEach(variantsOf(request), ({ job }) => submission.check(job, caller));
      throwIfSomeCannotRun(tried);
      const holdAtStep = request.halving === undefined ? null : stepOfRung(request.halving.first_steps, 0);
      const variants = tried.map(({ variant, result }): NewVariant => {
        const { spec, adapterBytes, planned } = result;
        return { values: variant.values, spec, adapterBytes, planned, holdAtStep };
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
    },
  };
}

type Failed = Extract<Tried<never>, { error: ProductError }>;

function hasFailed<Result>(tried: Tried<Result>): tried is Failed {
  return 'error' in tried;
}

/** A fault of the template is a fault of every variant. It is reported once, as it is for a job. */
function throwIfSameForAll<Result>(tried: Tried<Result>[]): void {
  const [first, ...others] = tried;
  if (first === undefined || !hasFailed(first)) return;
  const { error } = first;
  if (!others.every((one) => hasFailed(one) && one.error.code === error.code && one.error.message === error.message)) {
    return;
  }
  const param = error.param === undefined ? undefined : `job.${error.param}`;
  throw new ProductError(error.code, error.message, { param, details: error.details, cause: error });
}

/** @throws ProductError `invalid_sweep` with the first faults of each variant that cannot run */
function throwIfSomeCannotRun<Result>(
  tried: Tried<Result>[],
): asserts tried is Extract<Tried<Result>, { result: Result }>[] {
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

function planOf(tried: Tried<Report>[], firstSteps: number | null): SweepPlan {
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

function plannedVariant(tried: Tried<Report>): PlannedVariant {
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
