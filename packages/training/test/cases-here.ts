import { engine } from '@lorasmith/tensor';

/** Whether the engine of this process trains models like that of a case: those for GPUs refuse Gemma 4's heads. */
export function isTrainedHere(name: string): boolean {
  return engine.kind === 'cpu' || !/(^|\/)gemma4/.test(name);
}
