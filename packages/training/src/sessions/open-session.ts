import type { MachineProfile, SessionModelSpec, TrainingSettings } from '@lorasmith/contracts';
import { ModelTexts, readModelFolder, WeightDigests } from '@lorasmith/model-folder';
import { type LoadOptions, LoraAdapter } from '@lorasmith/models';
import { logitsPerChunk, type MemoryNeeds, planSession, SHARED_PASS_TOKENS } from '@lorasmith/planning';
import { ADAMW_DEFAULTS, AdamW } from '../adamw.js';
import { type BaseModelCache, stoppableLoading } from '../base-model-cache.js';
import { checkEngineHere, engineError, precisionHere } from '../engine-here.js';
import { Disposals } from '../plan-run.js';
import type { Share } from '../shared-pass/fair-shares.js';
import { type Participant, PassScheduler } from '../shared-pass/pass-scheduler.js';
import { LESS_MEMORY, TrainingSession } from './training-session.js';

export interface SessionOptions {
  spec: SessionModelSpec;
  /** Folder of the base model. */
  modelFolder: string;
  precision: TrainingSettings['precision'];
  /** The measurements of this machine; null: no memory is estimated. */
  machine: MachineProfile | null;
  /** Aborted to end the session: ops under way, and later ones, then fail with `cancelled`. */
  signal: AbortSignal;
  /** See TrainOptions, also for those that follow. */
  cache: BaseModelCache;
  admit?(needs: MemoryNeeds | null): () => void;
  onLoading?: NonNullable<LoadOptions['onProgress']>;
  digests?: WeightDigests;
  texts?: ModelTexts;
  scheduler?: PassScheduler;
  share?: Share;
}

/** The time until a session is open on a loaded base. Others wait for that long. */
const OPENING_MS = 200;

/**
 * Opens a model that its client trains op by op. It shares the base and the passes with the runs of the process.
 * @throws JobDeferred where it does not fit into memory with the others, or they use another base; ProductError invalid_job, does_not_fit, model_*, cancelled
 */
export async function openSession(options: SessionOptions): Promise<TrainingSession> {
  const { share, signal, scheduler = new PassScheduler() } = options;
  const passes = scheduler.join({ share, signal });
  const disposals = new Disposals();
  disposals.add(() => passes.leave());
  try {
    return await passes.concurrently(() => open(options, passes, disposals), OPENING_MS);
  } catch (error) {
    await disposals.dispose();
    throw engineError(error, LESS_MEMORY);
  }
}

async function open(options: SessionOptions, passes: Participant, disposals: Disposals): Promise<TrainingSession> {
  const { spec, machine, cache, texts = new ModelTexts(), digests = new WeightDigests(null), signal } = options;
  const model = await readModelFolder(options.modelFolder);
  checkEngineHere(model);
  const { chosen: precision } = precisionHere(options.precision, model.architecture.family, machine, cache.kernels);
  const plan = planSession({ spec, model, precision, machine });
  const leaveMemory = options.admit?.(plan.needs);
  if (leaveMemory !== undefined) disposals.add(leaveMemory);
  const logitsInChunk = logitsPerChunk(machine, precision);
  const leased = await cache.lease(model, precision, { ...stoppableLoading(options), logitsInChunk, digests });
  disposals.add(() => leased.release());
  const adapter = new LoraAdapter(leased.model.groups, { targets: plan.targets, dropout: 0, seed: spec.seed });
  disposals.add(() => adapter.dispose());
  const optimizer = new AdamW(leased.model.kernels, adapter.parameterCount, { ...ADAMW_DEFAULTS, weightDecay: 0 });
  disposals.add(() => optimizer.dispose());
  const passTokens = machine?.pass_tokens ?? SHARED_PASS_TOKENS;
  return new TrainingSession({ model, plan, leased, adapter, optimizer, passes, passTokens, texts, signal, disposals });
}
