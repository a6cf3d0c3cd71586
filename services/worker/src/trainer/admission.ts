import type { ModelName, TrainingSettings } from '@lorasmith/contracts';
import type { Capacity } from '@lorasmith/queue';
import { isSameBase, type SharedBase } from './warm-trainer.js';

type Precision = TrainingSettings['precision'];

/** A run that a pool counts, from the moment its job is taken. */
export interface PoolRun {
  /** Later runs have higher numbers. */
  number: number;
  base: SharedBase;
  state: 'taken' | 'waiting' | 'running';
}

/** The state of a pool by which it takes, begins and continues runs. */
export interface PoolState {
  isClosed: boolean;
  /** The runs in the order of their numbers. */
  runs: readonly PoolRun[];
  /** The most runs at once. */
  limit: number;
  /** The number of the suspect that may run now, alone. */
  firstSuspect: number | null;
  /** A run could not begin while the others ran, so no other is taken meanwhile. */
  isDeferring: boolean;
  trainer: {
    /** The base that it has, or is about to have, in memory. */
    base: SharedBase | null;
    /** True if its runs may continue in it. */
    isFit: boolean;
    slots: number;
  };
}

/** True if a run continues in the trainer that it has; otherwise it stops after a step. */
export function mayContinue({ number, state }: PoolRun, { trainer, firstSuspect }: PoolState): boolean {
  return state !== 'running' || (trainer.isFit && (firstSuspect ?? number) === number);
}

/** True if a waiting run may take a slot of the trainer. */
export function mayBegin(run: PoolRun, { runs, trainer, firstSuspect }: PoolState): boolean {
  if (firstSuspect !== null) return firstSuspect === run.number && trainer.slots === 0;
  // None passes one that came before it and waits for another base model.
  return !runs.some(
    (other) => other.number < run.number && other.state === 'waiting' && !isSameBase(other.base, run.base),
  );
}

const PRECISIONS: readonly Precision[] = ['auto', 'float32', 'bfloat16'];

/**
 * The jobs that the pool can take now; null: none.
 * @param precisionOf - The precision in which a job with this setting is trained.
 */
export function capacityOf(state: PoolState, precisionOf: (setting: Precision) => Precision): Capacity | null {
  const { isClosed, runs, limit, firstSuspect, isDeferring, trainer } = state;
  if (isClosed || runs.length >= limit || firstSuspect !== null) return null;
  if (isDeferring && trainer.slots > 0) return null;
  // The base of a trainer that is about to be replaced is that of the next one.
  const base = runs[0]?.base ?? trainer.base;
  if (runs.some((run) => !isSameBase(run.base, base!))) return null;
  return {
    isIdle: runs.length === 0,
    baseModel: base?.baseModel ?? null,
    precisions: PRECISIONS.filter((setting) => base !== null && precisionOf(setting) === base.precision),
    quantization: base?.quantization ?? 'none',
  };
}

/** The base model for which text can be generated now: null none, `baseModel` null any, else only that one. */
export function generatableModel({ isClosed, runs, firstSuspect, trainer }: PoolState): {
  baseModel: ModelName | null;
} | null {
  if (isClosed || firstSuspect !== null) return null;
  const active = runs.filter(({ state }) => state !== 'taken');
  const loaded = trainer.slots > 0 ? (trainer.base?.baseModel ?? null) : null;
  // It is about to be replaced.
  if (trainer.slots > 0 && loaded === null) return null;
  const baseModel = loaded ?? active[0]?.base.baseModel ?? null;
  return active.some(({ base }) => base.baseModel !== baseModel) ? null : { baseModel };
}
