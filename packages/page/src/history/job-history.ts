import {
  type AnswerRound,
  type AnswerScores,
  type EventData,
  type JobEvent,
  type JobSpec,
  LAST_EVENT_TYPES,
  type Report,
  type SampleRound,
} from '@lorasmith/contracts';

/** The values of consecutive steps, together. */
interface Bucket {
  /** The number of its last step. */
  step: number;
  count: number;
  sum: number;
  min: number;
  max: number;
}

interface CurvePoints {
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

export type Evaluation = EventData<'evaluation-finished'>;
type StepData = EventData<'step-finished'>;
/** An event that is worth a line of its own. */
export type NotedEvent = Exclude<
  JobEvent,
  { type: 'step-finished' | 'tokenizing-progressed' | 'reference-progressed' | 'answers-graded' }
>;

const MAX_EVALUATIONS = 1000;
const MAX_ROUNDS = 100;
const MAX_NOTED = 200;

/** The values of a step that have a curve. */
const CURVES = ['loss', 'accuracy', 'learning_rate', 'grad_norm', 'tokens_per_second', 'epoch'] as const;
/** The further values of a step over pairs of answers, or over answers with a label. */
const PREFERENCE_CURVES = [
  'rewards/chosen',
  'rewards/rejected',
  'rewards/margins',
  'logps/chosen',
  'logps/rejected',
  'kl',
] as const;
/** The further values of a step over sampled answers. */
const GROUP_CURVES = [
  'reward',
  'reward_std',
  'frac_reward_zero_std',
  'completions/mean_length',
  'completions/clipped_ratio',
  'clip_ratio/region_mean',
  'kl',
] as const;
export type CurveName = (typeof CURVES)[number] | (typeof PREFERENCE_CURVES)[number] | (typeof GROUP_CURVES)[number];

/**
 * The history of a job from its events, in bounded memory whatever their number. `add` takes them in their order; a reader that was
 * cut off continues after `lastEventId`.
 */
export class JobHistory {
  lastEventId: string | undefined;
  /** True if the last event is the last one of the job, unless it is resumed. */
  hasEnded = false;
  readonly curves: Record<CurveName, Curve> = {
    loss: new Curve(),
    accuracy: new Curve(),
    learning_rate: new Curve(),
    grad_norm: new Curve(),
    tokens_per_second: new Curve(),
    epoch: new Curve(),
    'rewards/chosen': new Curve(),
    'rewards/rejected': new Curve(),
    'rewards/margins': new Curve(),
    'logps/chosen': new Curve(),
    'logps/rejected': new Curve(),
    kl: new Curve(),
    reward: new Curve(),
    reward_std: new Curve(),
    frac_reward_zero_std: new Curve(),
    'completions/mean_length': new Curve(),
    'completions/clipped_ratio': new Curve(),
    'clip_ratio/region_mean': new Curve(),
  };
  /** Seconds from the first event to the end of each step. */
  readonly seconds = new Curve();
  #startMs: number | null = null;
  /** Evaluations by step, ascending. */
  evaluations: Evaluation[] = [];
  /** The answers to the job's prompts, by step, ascending. */
  sampleRounds: SampleRound[] = [];
  /** Some of the graded answers of steps, ascending. */
  answerRounds: AnswerRound[] = [];
  /** The latest events that are no steps. */
  noted: NotedEvent[] = [];
  report: Report | null = null;
  lastStep: StepData | null = null;
  tokenizing: EventData<'tokenizing-progressed'> | null = null;
  reference: EventData<'reference-progressed'> | null = null;
  /** The first step whose event the service still has; null: none. */
  firstStep: number | null = null;

  add(event: JobEvent): void {
    this.lastEventId = event.id;
    this.hasEnded = LAST_EVENT_TYPES.includes(event.type);
    this.#startMs ??= Date.parse(event.created_at);
    if (event.type === 'step-finished') {
      this.#addStep(event.data, Date.parse(event.created_at) - this.#startMs);
      return;
    }
    if (event.type === 'tokenizing-progressed') {
      this.tokenizing = event.data;
      return;
    }
    if (event.type === 'reference-progressed') {
      this.reference = event.data;
      return;
    }
    if (event.type === 'answers-graded') {
      this.answerRounds = thinned(withStep(this.answerRounds, event.data), MAX_ROUNDS);
      return;
    }
    this.noted.push(event);
    if (this.noted.length > MAX_NOTED) this.noted.splice(0, this.noted.length - MAX_NOTED);
    switch (event.type) {
      case 'report-ready':
        this.report = event.data.report;
        this.tokenizing = null;
        this.reference = null;
        break;
      case 'evaluation-finished':
        this.evaluations = thinned(withStep(this.evaluations, event.data), MAX_EVALUATIONS);
        break;
      case 'samples-generated':
        this.sampleRounds = thinned(withStep(this.sampleRounds, event.data), MAX_ROUNDS);
        break;
      default:
    }
  }

  /** The step of the state that became the adapter; undefined before there is one. */
  get publishedStep(): number | undefined {
    const published = this.noted.findLast((event) => event.type === 'adapter-published');
    return published?.type === 'adapter-published' ? published.data.step : undefined;
  }

  /** The evaluation with the lowest loss. */
  get bestEvaluation(): Evaluation | null {
    return this.evaluations.reduce<Evaluation | null>(
      (best, one) => (best === null || one.loss < best.loss ? one : best),
      null,
    );
  }

  /** The event of the checkpoint that was saved last: it changes with each, unlike the number of those among the latest events. */
  get lastSaved(): string | undefined {
    return this.noted.findLast(({ type }) => type === 'checkpoint-saved')?.id;
  }

  #addStep(data: StepData, ms: number): void {
    this.seconds.add(data.step, ms / 1000);
    for (const name of CURVES) this.curves[name].add(data.step, data[name]);
    const { preference, group } = data;
    if (preference !== undefined) for (const name of PREFERENCE_CURVES) this.#addTo(name, data.step, preference[name]);
    if (group !== undefined) for (const name of GROUP_CURVES) this.#addTo(name, data.step, group[name]);
    if (this.firstStep === null || data.step < this.firstStep) this.firstStep = data.step;
    this.lastStep = data;
  }

  /** @param value undefined where the step has none */
  #addTo(name: CurveName, step: number, value: number | undefined): void {
    if (value === undefined) this.curves[name].removeAfter(step - 1);
    else this.curves[name].add(step, value);
  }
}

/** The scores of answers to held-out rows, by step; empty unless the job asks for it. */
export function scoresOf({ sampleRounds }: Pick<JobHistory, 'sampleRounds'>): { step: number; scores: AnswerScores }[] {
  return sampleRounds.flatMap(({ step, scores }) => (scores === undefined ? [] : [{ step, scores }]));
}

/** The losses of the held-out rows; of the training where there are none. */
export function lossesOf({ evaluations, curves }: JobHistory): number[] {
  return evaluations.length > 0 ? evaluations.map(({ loss }) => loss) : curves.loss.points().mean;
}

/** The mean rewards of held-out prompts; of the training where there are none. */
export function rewardsOf({ evaluations, curves }: JobHistory): number[] {
  return evaluations.length > 0 ? evaluations.map(rewardOf) : curves.reward.points().mean;
}

/** True for a job whose answers are graded: its figures are rewards. */
export function hasRewards({ objective }: Pick<JobSpec, 'objective'>): boolean {
  return objective !== undefined && 'grader' in objective;
}

/** The mean reward of an evaluation, whose loss is the same with the other sign. */
export function rewardOf({ group, loss }: Pick<Evaluation, 'group' | 'loss'>): number {
  return group?.reward ?? -loss;
}

/** The items with a new one at its step, without the later ones: they were trained before a restart. */
function withStep<Item extends { step: number }>(items: Item[], item: Item): Item[] {
  const last = items.at(-1);
  const kept = last === undefined || last.step < item.step ? items : items.filter(({ step }) => step < item.step);
  kept.push(item);
  return kept;
}

/** Keeps at most `max` items: every second one goes, the first and the last stay. */
function thinned<Item>(items: Item[], max: number): Item[] {
  if (items.length <= max) return items;
  return items.filter((_, index) => index % 2 === 0 || index === items.length - 1);
}
