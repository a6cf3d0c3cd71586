import { engine } from '@lorasmith/tensor';

/** Whether the engine of this process trains the model of a case: those for GPUs refuse linear attention. */
export function isTrainedHere(name: string): boolean {
  return engine.kind === 'cpu' || !/(^|\/)qwen3_5/.test(name);
}
