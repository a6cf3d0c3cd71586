import {
  checkRecordVersion,
  type JobId,
  type Owner,
  type SweepId,
  type SweepRequest,
  type VariantValues,
} from '@lorasmith/contracts';

/** The wish of the user of a sweep for all its jobs. */
export type WantedOfSweep = 'run' | 'pause' | 'cancel';

/** A variant as the record of its sweep has it. */
export interface RecordedVariant {
  job: JobId;
  values: VariantValues;
}

/** A decision at a rung of a sweep by halving. Written once. */
export interface RecordedRung {
  step: number;
  /** Indices of the variants that continue. */
  kept: number[];
  /** The metric at the rung, by the index of the variant. */
  metrics: Record<string, number | null>;
  decided_at: string;
}

/** The end of a sweep. Written once. */
export interface SweepOutcome {
  status: 'succeeded' | 'failed' | 'cancelled';
  /** Indices of the variants that have a result, the best first. */
  ranking: number[];
  /** The metric by variant, as it was then. */
  metrics: (number | null)[];
  ended_at: string;
}

/** The record of a sweep. What its jobs are doing is in their own. */
export interface SweepRecord {
  id: SweepId;
  owner: Owner;
  request: SweepRequest;
  variants: RecordedVariant[];
  created_at: string;
  wanted: WantedOfSweep;
  /** True once all jobs have been asked for what is wanted. */
  isSettled: boolean;
  /** The decisions so far. */
  rungs: RecordedRung[];
  /** The ends of variants that were reported: see {@link endField}. */
  reportedEnds: ReadonlySet<string>;
  /** Null until it has ended. */
  outcome: SweepOutcome | null;
}

/** The record in a hash as Redis returns it; null if the hash is empty. */
export function sweepOfRecord(id: SweepId, hash: Readonly<Record<string, string>>): SweepRecord | null {
  const { version, owner, request, variants, created_at, wanted, is_settled, outcome } = hash;
  if (request === undefined || variants === undefined || created_at === undefined) return null;
  checkRecordVersion({ version: Number(version) }, `The record of ${id}`);
  return {
    id,
    owner: owner ?? null,
    request: JSON.parse(request) as SweepRequest,
    variants: JSON.parse(variants) as RecordedVariant[],
    created_at,
    wanted: wanted as WantedOfSweep,
    isSettled: is_settled === '1',
    rungs: rungsOf(hash),
    reportedEnds: new Set(Object.keys(hash).filter((field) => field.startsWith(END))),
    outcome: outcome === undefined ? null : (JSON.parse(outcome) as SweepOutcome),
  };
}

/** The field of the decision at a rung, counted from 0. */
export function rungField(rung: number): string {
  return `rung:${rung}`;
}

const END = 'ended:';

/** The field that says that the end of a variant was reported. A job that is resumed may end again. */
export function endField(index: number, resumes: number): string {
  return `${END}${index}:${resumes}`;
}

function rungsOf(hash: Readonly<Record<string, string>>): RecordedRung[] {
  const rungs: RecordedRung[] = [];
  for (let text = hash[rungField(0)]; text !== undefined; text = hash[rungField(rungs.length)]) {
    rungs.push(JSON.parse(text) as RecordedRung);
  }
  return rungs;
}
