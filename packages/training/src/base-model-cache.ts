import type { ModelFolder, WeightDigests, WeightsState } from '@lorasmith/model-folder';
import { type LoadedBase, type LoadOptions, loadBaseModel } from '@lorasmith/models';
import type { FloatDType } from '@lorasmith/tensor';
import { throwIfStopped } from './stop.js';

interface InMemory extends LoadedBase {
  /** Dtype and architecture. */
  form: string;
  state: WeightsState;
}

/** The base model that a process has in memory: consecutive jobs on the same model load it once. */
export class BaseModelCache {
  #loaded: InMemory | null = null;

  /**
   * The model in `dtype` with the digest of its weights, loaded unless it is the one in memory; the one before is freed first.
   * Nothing is read of weights that are in memory, if their files have not changed or their digest is remembered.
   */
  async get(
    folder: ModelFolder,
    dtype: FloatDType,
    options: LoadOptions & { digests: WeightDigests },
  ): Promise<LoadedBase> {
    const { digests } = options;
    const form = `${dtype} ${JSON.stringify(folder.architecture)}`;
    const state = await digests.state(folder);
    if (this.#loaded?.form === form && (await this.#hasWeightsOf(this.#loaded, state, digests))) return this.#loaded;
    this.dispose();
    const loaded = await loadBaseModel(folder, dtype, options);
    this.#loaded = { ...loaded, form, state };
    return this.#loaded;
  }

  async #hasWeightsOf(loaded: InMemory, state: WeightsState, digests: WeightDigests): Promise<boolean> {
    if (loaded.state.settled && loaded.state.key === state.key) return true;
    return (await digests.recall(state)) === loaded.weightsSha256;
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
