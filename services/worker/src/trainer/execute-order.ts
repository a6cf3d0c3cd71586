import type { MachineProfile, TrainingOutcome } from '@lorasmith/contracts';
import { ModelTexts, WeightDigests } from '@lorasmith/model-folder';
import { type MemoryNeeds, openExampleStore } from '@lorasmith/planning';
import {
  BaseModelCache,
  cardFailure,
  chooseKernels,
  engine,
  openSession as openTrainingSession,
  PassScheduler,
  publishCheckpoint,
  type TrainingSession,
  train,
} from '@lorasmith/training';
import { GenerationHost } from '../generation/generation-host.js';
import { MemoryLedger } from './memory-ledger.js';
import type { GenerationOrder, SessionOrder, TokenCounts, TrainerOrder } from './messages.js';
import { loadingLog } from './serve-trainer.js';
import type { AnswerCallbacks, TrainerRunOptions } from './trainer-process.js';
import { endWithoutGpu, trainerKernels, trainerSettings } from './trainer-program.js';

// Importing this file loads the engine, and on a GPU opens the card.

endWithoutGpu(engine);
const cache = new BaseModelCache(chooseKernels(...trainerKernels()));
const texts = new ModelTexts();
const { passTokens, generationShare, generationMemory } = trainerSettings();
const scheduler = new PassScheduler({ passTokens, generationShare });
const memory = new MemoryLedger(passTokens);
const onLoading = loadingLog(console.log);
/** The time to prepare an answer with an adapter that is read from its files. Jobs that train wait for that long. */
const PREPARING_ANSWER_MS = 100;
/** The time to open the examples before a run can plan. */
const OPENING_EXAMPLES_MS = 50;
const generation = new GenerationHost({
  cache,
  texts,
  memory: generationMemory,
  ledger: memory,
  onLoading,
  onWork: () => scheduler.wake(),
  whileTraining: (work) => scheduler.concurrently(work, PREPARING_ANSWER_MS),
});
scheduler.generator = generation;

/** Memory for a run: what answers keep for later ones is freed for it. @throws JobDeferred */
function admit(needs: MemoryNeeds | null, machine: MachineProfile | null): () => void {
  generation.yieldMemory();
  return memory.admit(needs, machine);
}

/** Does one order, concurrently with others. @throws as `train` and `publishCheckpoint` */
export async function executeOrder(
  order: TrainerOrder,
  { signal, recycle, onEvent, grade }: TrainerRunOptions,
): Promise<TrainingOutcome> {
  const { share } = order;
  const digests = new WeightDigests(order.weightDigests);
  const shared = { cache, scheduler, share, digests, texts };
  switch (order.kind) {
    case 'train': {
      const { spec, dataset, validation, machine, tokens, rungStep, paths } = order;
      const examples = await scheduler.concurrently(() => openExampleStore(tokens), OPENING_EXAMPLES_MS);
      const callbacks = {
        signal,
        pause: recycle,
        pauseAtStep: rungStep,
        onEvent,
        onLoading,
        admit: (needs: MemoryNeeds | null) => admit(needs, machine),
        askGrader: grade,
      };
      return await train({ spec, dataset, validation, machine, examples, ...paths, ...callbacks, ...shared });
    }
    case 'publish-checkpoint': {
      const { spec, checkpoint, paths } = order;
      const { folder: checkpointFolder, step } = checkpoint;
      const callbacks = { signal, onEvent, onLoading };
      return await publishCheckpoint({ spec, checkpointFolder, step, ...paths, ...callbacks, ...shared });
    }
  }
}

/** Opens a training session, which shares the base and the passes with the runs. @throws as `openSession` of training */
export function openSession(
  { spec, modelFolder, precision, machine, weightDigests, share }: SessionOrder,
  { signal }: { signal: AbortSignal },
): Promise<TrainingSession> {
  const shared = { cache, scheduler, share, digests: new WeightDigests(weightDigests), texts, onLoading };
  const callbacks = { signal, admit: (needs: MemoryNeeds | null) => admit(needs, machine) };
  return openTrainingSession({ spec, modelFolder, precision, machine, ...callbacks, ...shared });
}

/** Answers a request for text while the runs continue. @throws as {@link GenerationHost.generate} */
export function generate(order: GenerationOrder, options: AnswerCallbacks): Promise<TokenCounts | null> {
  return generation.generate(order, options);
}

/** True if nothing can be computed in this process any more: once its card has failed, every further call of the driver fails. */
export function isSpent(): boolean {
  return cardFailure() !== null;
}
