import type { ModelFolder } from '@lorasmith/model-folder';
import { checkEngineSupports } from '@lorasmith/planning';
import { engine } from '@lorasmith/tensor';

/** Checks that the engine of this process has kernels for all parts of a model. @throws ProductError model_not_supported */
export function checkEngineHere(model: ModelFolder): void {
  checkEngineSupports(engine.kind, model);
}
