import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ModelSource } from '@lorasmith/base-models';
import { askChild, type ChildProgram } from '@lorasmith/child-processes';
import { inTime, Semaphore, SingleFlight } from '@lorasmith/concurrency';
import { type AdapterFile, type AdapterManifest, ProductError } from '@lorasmith/contracts';
import { maxGgufBytes, mergedEntry, mergedLayout } from '@lorasmith/export';
import { asTrained, type ModelFolder, openBaseModel } from '@lorasmith/model-folder';
import type { Tracing } from '@lorasmith/service-kit';
import { type BundleStore, type LocalBundleStore, totalBytes } from '@lorasmith/storage';
import type { VerifiedAdapter } from '../adapters/adapter-library.js';
import { crashError, shuttingDown } from '../child-processes.js';
import {
  adapterOf,
  bundleIdOf,
  type DerivedForm,
  MERGED,
  type MergeProgress,
  type MergeRequest,
} from './derived-form.js';
import { MergedCache } from './merged-cache.js';

/** Upper limit for a tensor's entries in the index of a model in several files and in the record of the cache. */
const MAX_INDEX_ENTRY_BYTES = 512;

/** Bytes of the Modelfile and the model card together, with usual settings. */
const TEXT_FILES_BYTES = 16 * 1024;

/** Maximum waiting merges. */
const MAX_WAITING = 16;
/** Limits, for docs/limits.md. */
export const mergeLimits = {
  waiting: { value: MAX_WAITING, unit: 'merges', beyond: '503 `service_unavailable`' },
};

/** Events of merges, for logs and metrics. */
export type MergeEvent =
  | { type: 'merged-model-requested'; adapter: string; found: boolean }
  | { type: 'merged-model-evicted'; adapter: string; bytes: number }
  | { type: 'merge-started'; adapter: string; model: string; bytes: number }
  | { type: 'merge-progressed'; adapter: string; doneBytes: number; totalBytes: number }
  | { type: 'merge-finished'; adapter: string; seconds: number }
  | { type: 'merge-failed'; adapter: string; seconds: number; error: unknown };

export interface MergedModelsDependencies {
  /** Published adapters. */
  adapters: BundleStore;
  /** Merged models, on any file system of this host. */
  merged: LocalBundleStore;
  baseModels: ModelSource;
  /** Folder in which digests of weights are remembered; see WeightDigests. */
  weightDigests: string;
  program: ChildProgram;
  /** Limit for all merged models on disk together. */
  cacheBytes: number;
  /** Time limit of a merge. */
  mergeTimeoutMs: number;
  /** The time that a request waits for a merge. The merge continues after that. */
  waitTimeoutMs: number;
  tracing: Tracing;
  onEvent: (event: MergeEvent) => void;
}

/** A merged model that stays on disk until it is released. */
export interface MergedModelLease {
  /** The id of its bundle. */
  id: string;
  files: AdapterFile[];
  release: () => void;
}

/** Adapters merged into their base models. Each is computed on its first request, once for all callers, and stored on disk. */
export class MergedModels {
  readonly #dependencies: MergedModelsDependencies;
  readonly #cache: MergedCache;
  /** One at a time: a merge uses all cores and the disk. */
  readonly #merges = new Semaphore(1);
  readonly #running = new SingleFlight<AdapterFile[]>();
  readonly #closing = new AbortController();

  private constructor(dependencies: MergedModelsDependencies) {
    this.#dependencies = dependencies;
    this.#cache = new MergedCache(dependencies.merged, dependencies.cacheBytes, (id, bytes) =>
      dependencies.onEvent({ type: 'merged-model-evicted', adapter: adapterOf(id), bytes }),
    );
  }

  /** Loads the merged models of an earlier process and removes its incomplete folders. */
  static async open(dependencies: MergedModelsDependencies): Promise<MergedModels> {
    const models = new MergedModels(dependencies);
    await dependencies.merged.sweepStaging(dependencies.mergeTimeoutMs);
    await models.#cache.load((id) => dependencies.adapters.has(adapterOf(id)));
    return models;
  }

  /**
   * The merged model of an adapter, or a GGUF file, computed if necessary. The merge continues for the other callers if one disconnects or
   * stops waiting.
   *
   * @throws ProductError `model_not_found` and the other model errors; `conflict` if the base model has changed since the
   * training; `model_not_supported` for a model that GGUF cannot express; `invalid_adapter`, `merge_not_finite`, `merge_crashed`,
   * `storage_full`, `service_unavailable`, `timeout`
   */
  async acquire(adapter: VerifiedAdapter, form: DerivedForm = MERGED): Promise<MergedModelLease> {
    const id = bundleIdOf(adapter.id, form);
    const release = this.#cache.pin(id);
    try {
      const found = await this.#cache.files(id);
      this.#dependencies.onEvent({ type: 'merged-model-requested', adapter: adapter.id, found: found !== null });
      const files = found ?? (await this.#waitFor(this.#merge(adapter, form)));
      return { id, files, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Number and bytes of the merged models, and the number of running and waiting merges. */
  usage(): { models: number; bytes: number; limitBytes: number; merging: number } {
    return { ...this.#cache.usage(), merging: this.#running.size };
  }

  /** Removes everything that was computed from a deleted adapter. */
  async forget(adapter: string): Promise<void> {
    for (const id of this.#cache.ids()) if (adapterOf(id) === adapter) await this.#cache.remove(id);
  }

  /** Ends the merges. Requests that wait for them fail with `service_unavailable`. */
  async close(): Promise<void> {
    this.#closing.abort(shuttingDown());
    await this.#running.settled();
  }

  #merge(adapter: VerifiedAdapter, form: DerivedForm): Promise<AdapterFile[]> {
    const id = bundleIdOf(adapter.id, form);
    return this.#running.run(id, () => {
      if (this.#merges.waiting >= MAX_WAITING) {
        const message = `${MAX_WAITING} merges are already waiting, which is the limit. Try again later.`;
        throw new ProductError('service_unavailable', message);
      }
      const unpin = this.#cache.pin(id);
      const attributes = { 'lorasmith.adapter': adapter.id };
      const merge = () =>
        this.#dependencies.tracing.span('merge adapter', { attributes }, () => this.#mergeNow(adapter, form));
      return this.#merges.run(merge, this.#closing.signal).finally(unpin);
    });
  }

  async #mergeNow(adapter: VerifiedAdapter, form: DerivedForm): Promise<AdapterFile[]> {
    const { id, manifest } = adapter;
    // An earlier merge may have finished since the cache was checked.
    const ready = await this.#cache.files(bundleIdOf(id, form));
    if (ready !== null) return ready;
    const { modelsDir, release } = await this.#dependencies.baseModels.lease(manifest.base_model.name);
    try {
      const model = await openBaseModel(modelsDir, manifest.base_model.name);
      return await this.#mergeInto(adapter, form, asTrained(model, manifest.base_model));
    } finally {
      release();
    }
  }

  async #mergeInto({ id, manifest }: VerifiedAdapter, form: DerivedForm, model: ModelFolder): Promise<AdapterFile[]> {
    const { adapters, merged, program, mergeTimeoutMs, onEvent } = this.#dependencies;
    const bundle = bundleIdOf(id, form);
    const bytes = TEXT_FILES_BYTES + (await derivedBytes(form, model, manifest));
    await this.#cache.evictFor(bytes);

    const begin = performance.now();
    const seconds = () => (performance.now() - begin) / 1000;
    onEvent({ type: 'merge-started', adapter: id, model: model.name, bytes });
    const staging = await merged.stage();
    let release = () => {};
    try {
      const lease = await adapters.lease(id);
      release = () => lease.release();
      const request: MergeRequest = {
        modelFolder: model.path,
        ...{ manifest, form },
        adapterFolder: lease.folder,
        weightDigests: this.#dependencies.weightDigests,
        outputFolder: staging.path,
      };
      const work = 'Merging';
      // In a child process: a crash of native code, or an adapter too large for the memory, ends that alone.
      const made = await askChild<AdapterFile[], MergeProgress>(program, request, {
        signal: this.#closing.signal,
        timeoutMs: mergeTimeoutMs,
        work,
        crashed: crashError(work, 'merge_crashed'),
        onProgress: (progress) => onEvent({ type: 'merge-progressed', adapter: id, ...progress }),
      });
      await this.#cache.publish(bundle, staging, made);
      onEvent({ type: 'merge-finished', adapter: id, seconds: seconds() });
    } catch (error) {
      onEvent({ type: 'merge-failed', adapter: id, seconds: seconds(), error });
      // Without its files, a merge fails in many ways.
      throw (await adapters.has(id)) ? error : deletedMeanwhile(id);
    } finally {
      release();
      await staging.discard();
    }
    if (!(await adapters.has(id))) {
      await this.#cache.remove(bundle);
      throw deletedMeanwhile(id);
    }
    const files = await this.#cache.files(bundle);
    if (files === null) throw new ProductError('internal_error', `The merged model of ${id} was removed. Try again.`);
    return files;
  }

  async #waitFor(merging: Promise<AdapterFile[]>): Promise<AdapterFile[]> {
    const { waitTimeoutMs } = this.#dependencies;
    return await inTime(merging, waitTimeoutMs, () => {
      const message = `The merge takes longer than ${waitTimeoutMs / 1000} s. It continues: send the request again later.`;
      throw new ProductError('timeout', message);
    });
  }
}

function deletedMeanwhile(id: string): ProductError {
  return new ProductError('adapter_not_found', `The adapter ${id} was deleted while it was being merged.`);
}

/** Maximum size of the weights, and of what is copied with them. */
async function derivedBytes(form: DerivedForm, model: ModelFolder, { files, lora }: AdapterManifest): Promise<number> {
  const modules = new Set(lora.modules);
  if (form.format === 'per-expert') {
    const experts = model.parameters.reduce((sum, parameter) => sum + (parameter.experts ?? 0), 0);
    // A of gate_up_proj is there twice, and each projection of each expert has two tensors and a name in the config.
    return 2 * totalBytes(files) + 2 * experts * 3 * MAX_INDEX_ENTRY_BYTES;
  }
  if (form.format === 'safetensors') return await mergedBytes(model, modules);
  // No type takes more than that of the adapter's files.
  return form.weights === 'adapter' ? 2 * totalBytes(files) : await maxGgufBytes(model, modules, form.type);
}

/** Maximum size of the merged model: the weights keep their dtype or are decoded, text files are copied, an index is added. */
async function mergedBytes(model: ModelFolder, modules: ReadonlySet<string>): Promise<number> {
  const { sources } = mergedLayout(model, modules);
  let bytes = model.weightBytes + sources.size * MAX_INDEX_ENTRY_BYTES;
  for (const [tensor, source] of sources) {
    const merged = mergedEntry(model, source).byteLength;
    // Its own weights are counted already.
    bytes += tensor === source ? merged - model.tensors.get(source)!.entry.byteLength : merged;
  }
  for (const entry of await readdir(model.path, { withFileTypes: true })) {
    if (!/^[^.]+$|\.(json|txt|jinja|model|md)$/.test(entry.name) || entry.isDirectory()) continue;
    bytes += (await stat(join(model.path, entry.name))).size;
  }
  return bytes;
}
