import type { ModelFolder } from '@lorasmith/model-folder';
import { type BaseModel, type LoadOptions, loadClassifier, loadDecoder } from '@lorasmith/models';
import type { FloatDType } from '@lorasmith/tensor';
import { throwIfStopped } from './stop.js';

const LOADERS: { readonly [Kind in BaseModel['kind']]: typeof loadDecoder | typeof loadClassifier } = {
  decoder: loadDecoder,
  classifier: loadClassifier,
};

/** The base model that a process has in memory: consecutive jobs on the same model load it once. */
export class BaseModelCache {
  #loaded: { key: string; model: BaseModel } | null = null;

  /** The model in `dtype`, loaded unless it is the one in memory; the one before is freed first. */
  async get(
    folder: ModelFolder,
    dtype: FloatDType,
    weightsSha256: string,
    options: LoadOptions = {},
  ): Promise<BaseModel> {
    const key = `${dtype} ${weightsSha256} ${JSON.stringify(folder.architecture)}`;
    if (this.#loaded?.key === key) return this.#loaded.model;
    this.dispose();
    const model = await LOADERS[folder.architecture.kind](folder, dtype, options);
    this.#loaded = { key, model };
    return model;
  }

  dispose(): void {
    this.#loaded?.model.dispose();
    this.#loaded = null;
  }
}

/** Loading that reports its progress and ends when the signal is aborted. */
export function stoppableLoading(options: { signal: AbortSignal; onLoading?: LoadOptions['onProgress'] }): LoadOptions {
  return {
    onProgress(progress) {
      throwIfStopped(options.signal);
      options.onLoading?.(progress);
    },
  };
}
