import type { TrainerProcess } from '../src/trainer/trainer-process.js';

/** A trainer that does one thing otherwise. @param trainedMs - The time that it says it has trained. */
export function changedTrainer(
  trainer: TrainerProcess,
  {
    trainedMs,
    run = (order, options) => trainer.run(order, options),
  }: { trainedMs: () => number; run?: TrainerProcess['run'] },
): TrainerProcess {
  return {
    get pid() {
      return trainer.pid;
    },
    get usable() {
      return trainer.usable;
    },
    get trainedMs() {
      return trainedMs();
    },
    run,
    generate: (order, options) => trainer.generate(order, options),
    openSession: (order, options) => trainer.openSession(order, options),
    end: () => trainer.end(),
  };
}
