import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { listingOf, writeManifest } from '@lorasmith/artifacts';
import type { ModelSource } from '@lorasmith/base-models';
import { askChild, type ChildProgram } from '@lorasmith/child-processes';
import { Semaphore } from '@lorasmith/concurrency';
import {
  ADAPTER_FILES,
  type Adapter,
  HubRepository,
  newIdentifier,
  type Owner,
  ProductError,
} from '@lorasmith/contracts';
import { type FreeBytes, linkSignals } from '@lorasmith/service-kit';
import { type BundleStore, type Staging, totalBytes } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import type { AdapterLibrary } from '../adapters/adapter-library.js';
import { crashError, shuttingDown } from '../child-processes.js';
import { unpackAdapterTar } from './adapter-tar.js';
import { checkStoredBytes, type ImportRequest, type ImportResult, type StoredBounds } from './import-request.js';

export interface AdapterImportDependencies {
  /** Published adapters. */
  adapters: BundleStore;
  library: Pick<AdapterLibrary, 'summary' | 'delete'>;
  baseModels: ModelSource;
  /** Folder in which digests of weights are remembered; see WeightDigests. */
  weightDigests: string;
  program: ChildProgram;
  /** Time limit of a check. */
  timeoutMs: number;
  /** Maximum size of an adapter as it is stored. */
  maxStoredBytes: number;
}

export interface ImportOptions {
  /** The base model; null: the one that the adapter's config names. */
  baseModel: string | null;
  name: string | null;
  /** Owner of the new adapter. */
  owner: Owner;
  /** Free bytes for the adapter as it is stored. */
  freeBytes: FreeBytes;
  /** Aborted when the caller disconnects: nothing is published then. Its reason is a ProductError. */
  signal: AbortSignal;
}

interface RunningImport {
  options: ImportOptions;
  bounds: StoredBounds;
  /** Aborted when the caller disconnects or the registry closes. */
  signal: AbortSignal;
}

/** An import needs disk space for an adapter while it arrives. The limit is high, so that slow senders do not block others. */
const MAX_AT_ONCE = 64;
/** A check is a process with the memory of an adapter. Further checks wait. */
const MAX_CHECKED_AT_ONCE = 4;

/** Imports adapters that were trained elsewhere. */
export class AdapterImport {
  readonly #dependencies: AdapterImportDependencies;
  readonly #closing = new AbortController();
  readonly #checks = new Semaphore(MAX_CHECKED_AT_ONCE);
  #running = 0;

  constructor(dependencies: AdapterImportDependencies) {
    this.#dependencies = dependencies;
  }

  /**
   * Unpacks a tar, checks the adapter in a child process, and publishes it with a manifest in one step. After an error
   * nothing is published.
   *
   * @param chunks - An uncompressed tar of limited size
   * @throws ProductError `invalid_adapter`, `unsupported_media_type`, `model_not_found` and the other model errors,
   * `invalid_request` if no base model is named, `storage_full`, `quota_exceeded`, `service_unavailable` if too many
   * imports run, `timeout`; the reason of the signal
   */
  async import(chunks: AsyncIterable<Uint8Array>, options: ImportOptions): Promise<Adapter> {
    if (this.#running >= MAX_AT_ONCE) {
      throw new ProductError('service_unavailable', 'Too many adapters are being imported. Try again in a moment.');
    }
    this.#running++;
    const { adapters } = this.#dependencies;
    const { signal, unlink } = linkSignals([this.#closing.signal, options.signal]);
    const running: RunningImport = {
      options,
      bounds: { maxBytes: this.#dependencies.maxStoredBytes, freeBytes: options.freeBytes },
      signal,
    };
    const stagings: Staging[] = [];
    const stage = async () => {
      const staging = await adapters.stage();
      stagings.push(staging);
      return staging;
    };
    try {
      const received = await stage();
      await unpackAdapterTar(chunks, received);
      const checked = await stage();
      const result = await this.#checks.run(() => this.#check(received, checked, running), running.signal);
      return await this.#publish(checked, result, running);
    } finally {
      this.#running--;
      unlink();
      for (const staging of stagings) await staging.discard();
    }
  }

  /** Ends running and waiting checks. Their imports fail with `service_unavailable`. */
  close(): void {
    this.#closing.abort(shuttingDown());
  }

  async #check(received: Staging, checked: Staging, running: RunningImport): Promise<ImportResult> {
    const { options, bounds, signal } = running;
    const { program, timeoutMs } = this.#dependencies;
    const name = options.baseModel ?? (await this.#namedBaseModel(received));
    const { modelsDir, release } = await this.#dependencies.baseModels.lease(name);
    const request: ImportRequest = {
      adapterFolder: received.path,
      outputFolder: checked.path,
      modelsDir,
      baseModel: name,
      weightDigests: this.#dependencies.weightDigests,
      bounds,
    };
    try {
      const work = 'Checking the adapter';
      return await askChild<ImportResult>(program, request, {
        signal,
        timeoutMs,
        work,
        crashed: crashError(work, 'import_crashed'),
      });
    } finally {
      release();
    }
  }

  /** The base model that the adapter's config names: one that was pulled from the repository of this name, or else one whose own name is its last part. */
  async #namedBaseModel(received: Staging): Promise<string> {
    const { named, revision } = await baseModelInConfig(received.path);
    const models = Value.Check(HubRepository, named) ? await this.#dependencies.baseModels.list() : [];
    const pulled = models.filter(({ origin }) => origin?.repo === named);
    const model = pulled.find(({ origin }) => origin?.commit === revision) ?? pulled[0];
    // A path of the training machine has its separators.
    return model?.name ?? named.split(/[/\\]/).findLast((part) => part !== '') ?? named;
  }

  async #publish(checked: Staging, result: ImportResult, running: RunningImport): Promise<Adapter> {
    const { adapters, library } = this.#dependencies;
    const { options, bounds, signal } = running;
    const { name, owner } = options;
    const id = newIdentifier('ad');
    const { base_model, lora, files } = result;
    const { manifest, digest } = await writeManifest(checked, {
      id,
      owner,
      name,
      origin: { kind: 'imported' },
      base_model,
      lora,
      versions: { node: process.versions.node },
      files,
    });
    checkStoredBytes(totalBytes([...manifest.files, digest]), bounds);
    signal.throwIfAborted();
    const published = await adapters.publish(checked, id, listingOf(manifest));
    if (!published) throw new ProductError('internal_error', `The new id ${id} is already in use. Try again.`);
    const adapter = await library.summary(id);
    // Publishing a large adapter to S3, and reading its files once more, takes a while. If the caller has disconnected,
    // nobody knows the id, and the reservation of its bytes has been released.
    if (!options.signal.aborted) return adapter;
    await library.delete(id);
    throw options.signal.reason;
  }
}

/**
 * The base model that an adapter's config names: a repository of the hub (`org/model`), or a path of the training machine. The rest of the config is checked with
 * the adapter.
 *
 * @param folder - Contains the config, whose size was checked before
 * @throws ProductError `invalid_adapter` if the config is not JSON; `invalid_request` if it names no base model
 */
async function baseModelInConfig(folder: string): Promise<{ named: string; revision: unknown }> {
  let config: unknown;
  try {
    config = JSON.parse(await readFile(path.join(folder, ADAPTER_FILES.config), 'utf8'));
  } catch (cause) {
    const message = `${ADAPTER_FILES.config} is not JSON (${(cause as Error).message}).`;
    throw new ProductError('invalid_adapter', message, { cause });
  }
  const { base_model_name_or_path: named, revision } = (config ?? {}) as Record<string, unknown>;
  if (typeof named === 'string' && /[^/\\]/.test(named)) return { named, revision };
  const message = 'The adapter does not name its base model. Add ?base_model=NAME.';
  throw new ProductError('invalid_request', message, { param: 'base_model' });
}
