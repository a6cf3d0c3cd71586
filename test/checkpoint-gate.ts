import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';

const EQUIPMENT = new URL('../services/worker/test/fixtures/hold-at-checkpoint.mjs', import.meta.url);

/** A gate at which trainers hold their jobs before a checkpoint, until they are asked to stop or to pause, or are released. */
export interface CheckpointGate {
  /** The option that loads the equipment into a process of Node. */
  nodeOption: string;
  /** The variable by which the equipment finds the gate. */
  environment: { CHECKPOINT_GATE: string };
  /** Holds every job at the checkpoint of this step. */
  holdAt(step: number): Promise<void>;
  /** True if a job has come to the gate. */
  isHeld(): boolean;
  release(): Promise<void>;
}

/** @param file - A path for the gate, where nothing is yet */
export function checkpointGate(file: string): CheckpointGate {
  const held = `${file}.held`;
  return {
    nodeOption: `--import=${EQUIPMENT}`,
    environment: { CHECKPOINT_GATE: file },
    holdAt: (step) => writeFile(file, String(step)),
    isHeld: () => existsSync(held),
    async release() {
      for (const one of [file, held]) await rm(one, { force: true });
    },
  };
}
