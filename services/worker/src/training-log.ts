import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { GroupMetrics, JobEvent, NewJobEvent, PreferenceMetrics } from '@lorasmith/contracts';
import { mergeRecords, scalarsRecord, sessionStartRecord, versionRecord } from './event-recorder.js';

/** Events of a job with scalars, in the file of its adapter. */
const MAX_MERGED_EVENTS = 100_000;

export interface TrainingLogOptions {
  /** The folder of the job. */
  folder: string;
  /** The number of this attempt: each has a file of its own. */
  attempt: number;
  /** The events of the job so far, oldest first, for a host that has no log of it. */
  pastEvents: () => AsyncIterable<JobEvent>;
  onError: (error: unknown) => void;
}

/**
 * The log of a training for TensorBoard: a folder of event files that `tensorboard --logdir` follows. Each attempt has a file, which is
 * only appended to. A mark before steps that are trained again drops what was logged of them: at the beginning of a file, and where a crash
 * of the trainer has set back a run of the attempt.
 *
 * Nothing here fails a training: errors are reported, once.
 */
export class TrainingLog {
  readonly #options: TrainingLogOptions;
  readonly #file: string;
  #written: Promise<void> = Promise.resolve();
  #hasFailed = false;
  #isOpen = false;
  /** The last step that was trained in this attempt; 0: none. */
  #lastStep = 0;

  constructor(options: TrainingLogOptions) {
    this.#options = options;
    const number = String(options.attempt).padStart(6, '0');
    // TensorBoard reads the files of a folder in the order of their names.
    this.#file = path.join(options.folder, `events.out.tfevents.${number}.lorasmith`);
  }

  /** Writes an event after those before it, if it has figures. */
  add(event: NewJobEvent, at: Date = new Date()): void {
    const record = recordOf(event, at);
    if (record !== null) this.#append(record, at);
  }

  /** The log of all attempts as one file; null where there is none. */
  async merged(): Promise<Buffer | null> {
    await this.#written;
    try {
      const files = await logFiles(this.#options.folder);
      const contents = await Promise.all(files.map((file) => readFile(file)));
      return contents.length === 0 ? null : mergeRecords(contents, MAX_MERGED_EVENTS);
    } catch (error) {
      this.#report(error);
      return null;
    }
  }

  #append(record: ScalarsOfStep, at: Date): void {
    this.#written = this.#written
      .then(async () => {
        if (this.#hasFailed) return;
        const { step, isTraining, bytes } = record;
        if (!this.#isOpen) await this.#open(step, at);
        else if (isTrainedAgain(record, this.#lastStep))
          await appendFile(this.#file, sessionStartRecord(at.getTime() / 1000, step));
        this.#isOpen = true;
        if (isTraining) this.#lastStep = step;
        await appendFile(this.#file, bytes);
      })
      .catch((error: unknown) => this.#report(error));
  }

  /** @param step - The first of this attempt: it, and later ones, were perhaps logged by the attempts before. */
  async #open(step: number, at: Date): Promise<void> {
    const { folder, pastEvents } = this.#options;
    await mkdir(folder, { recursive: true });
    const past = (await logFiles(folder)).length === 0 ? await scalarsOfEvents(pastEvents()) : [];
    const wallTime = at.getTime() / 1000;
    const kept = past.filter((one) => one.step < step).map(({ bytes }) => bytes);
    await writeFile(this.#file, [versionRecord(wallTime), ...kept, sessionStartRecord(wallTime, step)]);
  }

  #report(error: unknown): void {
    if (!this.#hasFailed) this.#options.onError(error);
    this.#hasFailed = true;
  }
}

async function logFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names
    .filter((name) => name.includes('.tfevents.'))
    .sort()
    .map((name) => path.join(folder, name));
}

/** The scalars of a job's events so far, without those of steps that were trained again. */
async function scalarsOfEvents(events: AsyncIterable<JobEvent>): Promise<ScalarsOfStep[]> {
  let scalars: ScalarsOfStep[] = [];
  let isNewAttempt = false;
  let lastStep = 0;
  for await (const event of events) {
    isNewAttempt ||= event.type === 'job-started';
    const record = recordOf(event, new Date(event.created_at));
    if (record === null) continue;
    if (isNewAttempt || isTrainedAgain(record, lastStep)) scalars = scalars.filter(({ step }) => step < record.step);
    isNewAttempt = false;
    if (record.isTraining) lastStep = record.step;
    scalars.push(record);
  }
  return scalars;
}

interface ScalarsOfStep {
  step: number;
  /** False: they are of an evaluation after the step. */
  isTraining: boolean;
  bytes: Buffer;
}

/** True if these are of steps that were logged before. @param lastStep - The last one that was trained. */
function isTrainedAgain({ step, isTraining }: ScalarsOfStep, lastStep: number): boolean {
  return isTraining ? step <= lastStep : step < lastStep;
}

function recordOf(event: NewJobEvent, at: Date): ScalarsOfStep | null {
  const wallTime = at.getTime() / 1000;
  switch (event.type) {
    case 'step-finished': {
      const { step, loss, accuracy, learning_rate: rate, grad_norm: norm, tokens_per_second: speed } = event.data;
      const { preference, group } = event.data;
      return scalarsOf(wallTime, step, true, {
        'train/loss': loss,
        'train/accuracy': accuracy,
        'train/learning_rate': rate,
        'train/grad_norm': norm,
        'train/tokens_per_second': speed,
        ...withPrefix('train/', preference ?? group),
      });
    }
    case 'evaluation-finished': {
      const { step, loss, perplexity, accuracy, preference, group } = event.data;
      return scalarsOf(wallTime, step, false, {
        'eval/loss': loss,
        'eval/perplexity': perplexity,
        'eval/accuracy': accuracy,
        ...withPrefix('eval/', preference ?? group),
      });
    }
    default:
      return null;
  }
}

/** The metrics of judged or sampled answers, as TRL names them. */
function withPrefix(prefix: string, metrics: PreferenceMetrics | GroupMetrics | undefined): Record<string, number> {
  return Object.fromEntries(Object.entries(metrics ?? {}).map(([name, value]) => [prefix + name, value]));
}

function scalarsOf(
  wallTime: number,
  step: number,
  isTraining: boolean,
  values: Readonly<Record<string, number | null>>,
): ScalarsOfStep {
  const scalars = Object.entries(values).filter((entry): entry is [string, number] => entry[1] !== null);
  return { step, isTraining, bytes: scalarsRecord({ wallTime, step, scalars }) };
}
