import { join } from 'node:path';
import { DEFAULT_COMPLETION_FORMAT, type JobSpec, ProductError } from '@lorasmith/contracts';
import {
  type ModelFolder,
  ModelTexts,
  openBaseModel,
  WEIGHT_DIGESTS_FOLDER,
  WeightDigests,
} from '@lorasmith/model-folder';
import {
  type ExampleStoreOptions,
  openExampleStore,
  type PlanWithoutRows,
  planJob,
  planWithoutRows,
  prepareTokens,
  storedTokens,
  type ViewedRows,
  viewRows,
} from '@lorasmith/planning';
import { answering, type ThreadAnswer } from '../threads.js';
import {
  datasetsOf,
  type Planned,
  type PlannedJobs,
  type PlansWithoutRows,
  type PlanWithoutRowsTask,
  type PrepareTask,
  type ReportTask,
  type TokensTask,
  type ViewTask,
} from './preflight-tasks.js';

// What the api runs in worker threads: each function is a task, called by its name.

/** Does nothing: the thread has started. */
export function ready(): void {}

/**
 * Plans jobs as their trainers will, one after the other: what they have in common is read once.
 * @returns a report or a fault for each; null for those that were not done by the deadline
 */
export async function report({
  jobs,
  tokens,
  threads,
  deadlineMs,
}: ReportTask): Promise<ThreadAnswer<(ThreadAnswer<Planned> | null)[]>> {
  const late = deadlineMs === null ? null : AbortSignal.timeout(Math.max(0, deadlineMs - Date.now()));
  return await answering(async () => {
    const { specs, modelsDir, ...rest } = jobs;
    const model = await openBaseModel(modelsDir, specs[0]!.base_model);
    const weightsSha256 = await knownWeights(model, jobs, tokens);
    const examples = await openExampleStore(tokens);
    const texts = new ModelTexts();
    const signal = late === null ? {} : { signal: late };
    const reportOf = async (spec: JobSpec) => {
      const plan = await planJob({ ...rest, spec, model, weightsSha256, examples, texts, threads, ...signal });
      try {
        // It reads rows.
        return { report: plan.report, leastMemory: plan.leastMemory() };
      } finally {
        await plan.close();
      }
    };
    const reports: (ThreadAnswer<Planned> | null)[] = [];
    for (const spec of specs) {
      const answer = late?.aborted ? null : await answering(() => reportOf(spec));
      // What it threw may be that it was stopped.
      reports.push(answer !== null && 'error' in answer && late?.aborted ? null : answer);
    }
    return reports;
  });
}

/** The facts about each job that are known without its rows, and whether planning it completely is quick. */
export async function withoutRows({
  jobs,
  tokens,
  quick,
}: PlanWithoutRowsTask): Promise<ThreadAnswer<PlansWithoutRows>> {
  return await answering(async () => {
    const { specs, modelsDir, dataset, validation, initial, machine } = jobs;
    const model = await openBaseModel(modelsDir, specs[0]!.base_model);
    const weightsSha256 = await knownWeights(model, jobs, tokens);
    const known = { model, dataset, validation, initial, weightsSha256, machine };
    const plans: ThreadAnswer<PlanWithoutRows>[] = [];
    for (const spec of specs) plans.push(await answering(() => planWithoutRows({ spec, ...known })));
    const examples = await openExampleStore(tokens);
    const { completion_format: completionFormat } = specs[0]!.training;
    let shareOfBudget = 0;
    for (const one of datasetsOf(jobs)) {
      const stored = await storedTokens({ model, dataset: one, completionFormat, examples }).catch(nullIfNotTrainable);
      shareOfBudget += stored === null ? one.bytes / quick.rowBytes : stored.bytes / quick.tokenBytes;
    }
    return { plans, isQuick: shareOfBudget <= 1 };
  });
}

/** True if the rows are stored as tokens, in the form of a job that names none. */
export async function hasTokens({ rows, tokens }: TokensTask): Promise<ThreadAnswer<boolean>> {
  return await answering(async () => {
    const model = await openBaseModel(rows.modelsDir, rows.baseModel);
    const examples = await openExampleStore(tokens);
    const options = { model, dataset: rows.dataset, completionFormat: DEFAULT_COMPLETION_FORMAT, examples };
    return (await storedTokens(options).catch(nullIfNotTrainable)) !== null;
  });
}

/** Stores the rows as tokens, before a job says how they are written. */
export async function prepare({ rows, tokens, threads, port }: PrepareTask): Promise<ThreadAnswer<null>> {
  return await answering(async () => {
    const { dataset, rowsFile } = rows;
    const model = await openBaseModel(rows.modelsDir, rows.baseModel);
    const examples = await openExampleStore(tokens);
    await prepareTokens({
      model,
      dataset,
      completionFormat: DEFAULT_COMPLETION_FORMAT,
      rowsFile,
      examples,
      threads,
      onProgress: (progress) => port.postMessage(progress),
    });
    return null;
  });
}

/** The texts of the last base model whose rows were shown. */
const viewedTexts = new ModelTexts();

/** Shows rows. */
export async function view({ encoding, ...rows }: ViewTask): Promise<ThreadAnswer<ViewedRows>> {
  return await answering(async () => {
    if (encoding === null) return await viewRows({ ...rows, encoding });
    const model = await openBaseModel(encoding.modelsDir, encoding.baseModel);
    return await viewRows({ ...rows, encoding: { model, texts: viewedTexts, settings: encoding.settings } });
  });
}

/** The digest of the weights, only where it is remembered: the trainer compares it, too, once it has read the weights. */
async function knownWeights(
  model: ModelFolder,
  { initial }: PlannedJobs,
  { dataDir }: ExampleStoreOptions,
): Promise<string | null> {
  if (initial === null) return null;
  return await new WeightDigests(join(dataDir, WEIGHT_DIGESTS_FOLDER)).known(model);
}

/** No model has tokens of rows that it is not trained on. */
function nullIfNotTrainable(error: unknown): null {
  if (error instanceof ProductError && error.code === 'dataset_format_mismatch') return null;
  throw error;
}
