import { writeManifest } from '@lorasmith/adapter-store';
import { type AdapterId, newIdentifier, type Owner, ProductError } from '@lorasmith/contracts';
import { askChild, type ChildProgram } from '@lorasmith/engine-host';
import type { ModelSource } from '@lorasmith/model-store';
import type { FreeBytes } from '@lorasmith/service-kit';
import type { BundleStore, Staging } from '@lorasmith/storage';
import { crashError, shuttingDown } from '../child-processes.js';
import { unpackAdapterTar } from './adapter-tar.js';
import type { ImportRequest, ImportResult } from './import-messages.js';
import { namedBaseModel } from './named-base-model.js';
import { Semaphore } from './semaphore.js';
import { checkStoredBytes, type StoredBounds } from './stored-bytes.js';

export interface AdapterImportDependencies {
  /** Published adapters. */
  adapters: BundleStore;
  baseModels: ModelSource;
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
  async import(chunks: AsyncIterable<Uint8Array>, options: ImportOptions): Promise<AdapterId> {
    if (this.#running >= MAX_AT_ONCE) {
      throw new ProductError('service_unavailable', 'Too many adapters are being imported. Try again in a moment.');
    }
    this.#running++;
    const { adapters } = this.#dependencies;
    const running: RunningImport = {
      options,
      bounds: { maxBytes: this.#dependencies.maxStoredBytes, freeBytes: options.freeBytes },
      signal: AbortSignal.any([this.#closing.signal, options.signal]),
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
      const result = await this.#checks.run(running.signal, () => this.#check(received, checked, running));
      return await this.#publish(checked, result, running);
    } finally {
      this.#running--;
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
    const name = options.baseModel ?? (await namedBaseModel(received.path));
    const { modelsDir, release } = await this.#dependencies.baseModels.hold(name);
    const request: ImportRequest = {
      adapterFolder: received.path,
      outputFolder: checked.path,
      modelsDir,
      baseModel: name,
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

  async #publish(checked: Staging, result: ImportResult, running: RunningImport): Promise<AdapterId> {
    const { adapters } = this.#dependencies;
    const { options, bounds, signal } = running;
    const { name, owner } = options;
    const id = newIdentifier('ad');
    const { base_model, lora, files } = result;
    const manifest = await writeManifest(checked, {
      id,
      owner,
      name,
      origin: { kind: 'imported' },
      base_model,
      lora,
      versions: { node: process.versions.node },
      files,
    });
    checkStoredBytes(
      files.reduce((sum, file) => sum + file.bytes, manifest.bytes),
      bounds,
    );
    signal.throwIfAborted();
    const published = await adapters.publish(checked, id);
    if (!published) throw new ProductError('internal_error', `The new id ${id} is already in use. Try again.`);
    // Publishing a large adapter to S3 takes a while. If the caller has disconnected, nobody knows the id, and the
    // reservation of its bytes has been released.
    if (options.signal.aborted) {
      await adapters.delete(id);
      throw options.signal.reason;
    }
    return id;
  }
}
