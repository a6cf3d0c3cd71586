/** The values of consecutive steps, together. */
interface Bucket {
  /** The number of its last step. */
  step: number;
  count: number;
  sum: number;
  min: number;
  max: number;
}

export interface CurvePoints {
  /** The last step of each point. */
  steps: number[];
  /** Mean of the steps of the point. */
  mean: number[];
  min: number[];
  max: number[];
}

/** More points than a chart has pixels. */
const MAX_POINTS = 1024;

/**
 * A value for each step, as a bounded number of points: when there are too many, two become one. What it holds depends on the
 * values alone, not on when they came.
 */
export class Curve {
  #buckets: Bucket[] = [];
  #stepsPerPoint = 1;
  readonly #maxPoints: number;

  constructor(maxPoints = MAX_POINTS) {
    this.#maxPoints = maxPoints;
  }

  get stepsPerPoint(): number {
    return this.#stepsPerPoint;
  }

  /** Adds the value of a step, from 1. A step that came before was trained again, and what followed it no longer counts. */
  add(step: number, value: number): void {
    if (!Number.isFinite(value)) return;
    const last = this.#buckets.at(-1);
    if (last !== undefined && step <= last.step) this.removeAfter(step - 1);
    this.#append({ step, count: 1, sum: value, min: value, max: value });
    if (this.#buckets.length > this.#maxPoints) this.#coarsen();
  }

  /** Removes the points after a step. Of a point that lies around it, the values after it stay: they cannot be told apart. */
  removeAfter(step: number): void {
    const first = this.#buckets.findIndex((bucket) => bucket.step > step);
    if (first === -1) return;
    const straddling = this.#buckets[first]!;
    const begins = this.#indexOf(straddling.step) * this.#stepsPerPoint + 1;
    const stays = begins <= step;
    this.#buckets.length = first + (stays ? 1 : 0);
    if (stays) straddling.step = step;
  }

  points(): CurvePoints {
    const buckets = this.#buckets;
    return {
      steps: buckets.map(({ step }) => step),
      mean: buckets.map(({ sum, count }) => sum / count),
      min: buckets.map(({ min }) => min),
      max: buckets.map(({ max }) => max),
    };
  }

  #indexOf(step: number): number {
    return Math.floor((step - 1) / this.#stepsPerPoint);
  }

  #append(bucket: Bucket): void {
    const last = this.#buckets.at(-1);
    if (last === undefined || this.#indexOf(last.step) !== this.#indexOf(bucket.step)) {
      this.#buckets.push(bucket);
      return;
    }
    last.step = bucket.step;
    last.count += bucket.count;
    last.sum += bucket.sum;
    last.min = Math.min(last.min, bucket.min);
    last.max = Math.max(last.max, bucket.max);
  }

  #coarsen(): void {
    const finer = this.#buckets;
    this.#stepsPerPoint *= 2;
    this.#buckets = [];
    for (const bucket of finer) this.#append(bucket);
  }
}
