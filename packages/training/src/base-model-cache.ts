import { Semaphore } from '@lorasmith/concurrency';
import { type BaseQuantization, JobDeferred } from '@lorasmith/contracts';
import type { ModelFolder, WeightDigests, WeightsState } from '@lorasmith/model-folder';
import { type LoadedBase, type LoadOptions, loadBaseModel } from '@lorasmith/models';
import type { FloatDType, KernelSet } from '@lorasmith/tensor';
import { throwIfStopped } from './shared-pass/engine-time.js';

/** The dtype and quantization of a base model in memory. */
export interface BaseForm {
  dtype: FloatDType;
  quantization: BaseQuantization;
}

interface InMemory extends LoadedBase {
  name: string;
  form: BaseForm;
  /** Form and architecture. */
  key: string;
  state: WeightsState;
}

/** A base model that stays in memory until it is released. */
export interface LeasedBase extends LoadedBase {
  /** Call it once. The model may then be freed at any time. */
  release(): void;
}

export type LeaseOptions = LoadOptions & { digests: WeightDigests };

/**
 * The base model that a process has in memory. All runs on it share it, and it stays for the next one; it is freed when
 * another model is asked for and no run leases it.
 */
export class BaseModelCache {
  /** The kernels that the models compute with. */
  readonly kernels: KernelSet;
  #loaded: InMemory | null = null;
  #leases = 0;
  readonly #leasing = new Semaphore(1);

  constructor(kernels: KernelSet) {
    this.kernels = kernels;
  }

  /**
   * The model in `dtype` with the digest of its weights, loaded unless it is the one in memory; the one before is freed first.
   * Nothing is read of weights that are in memory, if their files have not changed or their digest is remembered; the digest of
   * a leased model is computed. Of several calls at once, one loads and the others wait for it.
   * @throws JobDeferred while another model, or this one in another form or with other weights, is leased
   */
  async lease(folder: ModelFolder, dtype: FloatDType, options: LeaseOptions): Promise<LeasedBase> {
    return await this.#leasing.run(() => this.#lease(folder, dtype, options));
  }

  async #lease(folder: ModelFolder, dtype: FloatDType, options: LeaseOptions): Promise<LeasedBase> {
    const { digests } = options;
    const form = { dtype, quantization: folder.baseQuantization };
    const key = JSON.stringify([form, folder.architecture]);
    const state = await digests.state(folder);
    let loaded = this.#loaded;
    if (loaded?.key !== key || !(await this.#hasWeightsOf(loaded, state, folder, digests))) {
      this.requireFree(folder.name, form);
      this.dispose();
      loaded = { ...(await loadBaseModel(folder, dtype, this.kernels, options)), name: folder.name, form, key, state };
      this.#loaded = loaded;
    }
    this.#leases += 1;
    const { model, weightsSha256 } = loaded;
    const release = () => {
      this.#leases -= 1;
    };
    return { model, weightsSha256, release };
  }

  async #hasWeightsOf(
    loaded: InMemory,
    state: WeightsState,
    folder: ModelFolder,
    digests: WeightDigests,
  ): Promise<boolean> {
    if (loaded.state.settled && loaded.state.key === state.key) return true;
    const known = await digests.recall(state);
    if (known !== null || this.#leases === 0) return known === loaded.weightsSha256;
    // It cannot be loaded again now, but it can be compared.
    if ((await digests.compute(folder)) !== loaded.weightsSha256) return false;
    loaded.state = state;
    return true;
  }

  /** @throws JobDeferred while a model is leased, so that this one cannot replace it */
  requireFree(wanted: string, form: BaseForm): void {
    if (this.#leases === 0) return;
    const { name, form: other } = this.#loaded!;
    throw new JobDeferred(
      `${wanted} in ${formText(form)} cannot be loaded while ${name} in ${formText(other)} is in use.`,
    );
  }

  /** The form in which the model of this name is in memory; null if it is not. */
  formOf(name: string): BaseForm | null {
    return this.#loaded?.name === name ? this.#loaded.form : null;
  }

  /** Frees the model, which no run leases. */
  dispose(): void {
    if (this.#leases > 0) throw new Error('a base model that is held cannot be freed');
    this.#loaded?.model.dispose();
    this.#loaded = null;
  }
}

function formText({ dtype, quantization }: BaseForm): string {
  return quantization === 'none' ? dtype : `${dtype} with ${quantization}`;
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
