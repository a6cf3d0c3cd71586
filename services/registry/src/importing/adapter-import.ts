import { writeManifest } from '@lorasmith/adapter-store';
import { type AdapterId, newIdentifier, type Owner, ProductError } from '@lorasmith/contracts';
import { askChild, type ChildProgram } from '@lorasmith/engine-host';
import type { ModelSource } from '@lorasmith/model-store';
import type { FreeBytes } from '@lorasmith/service-kit';
import type { BundleStore, Staging } from '@lorasmith/storage';
import { crashError, shuttingDown } from '../child-processes.js';
import { unpackAdapterTar } from './adapter-tar.js';
import type { ImportRequest, ImportResult } from './import-messages.js';
import { LimitedTurns } from './limited-turns.js';
import { namedBaseModel } from './named-base-model.js';
import { checkStoredBytes, type StoredBounds } from './stored-bytes.js';

export interface AdapterImportDependencies {
  /** Published adapters. */
  adapters: BundleStore;
  baseModels: ModelSource;
  program: ChildProgram;
  /** After this a check is ended. */
  timeoutMs: number;
  /** Of an adapter as it is stored. */
  maxStoredBytes: number;
}

export interface ImportOptions {
  /** The base model; null: the one that the adapter's config names. */
  baseModel: string | null;
  name: string | null;
  /** Whose adapter it will be. */
  owner: Owner;
  /** For the adapter as it is stored. */
  room: FreeBytes;
  /** The caller is gone: nothing is published any more. Its reason is a ProductError. */
  signal: AbortSignal;
}

interface RunningImport {
  options: ImportOptions;
  bounds: StoredBounds;
  /** The caller is gone, or the registry closes. */
  signal: AbortSignal;
}

/** Each takes the disk of an adapter while it arrives, however slowly; so a slow sender keeps nobody away. */
const MAX_AT_ONCE = 64;
/** Each is a process, and has the memory of an adapter. The others wait. */
const MAX_CHECKED_AT_ONCE = 4;

/** Takes adapters from outside. */
export class AdapterImport {
  readonly #dependencies: AdapterImportDependencies;
  readonly #closing = new AbortController();
  readonly #checks = new LimitedTurns(MAX_CHECKED_AT_ONCE);
  #running = 0;

  constructor(dependencies: AdapterImportDependencies) {
    this.#dependencies = dependencies;
  }

  /**
   * Unpacks a tar, checks the adapter in a process of its own, and publishes it with a manifest by one rename. Where
   * anything is wrong, nothing is published.
   *
   * @param chunks - Of a plain tar, bounded.
   * @throws ProductError `invalid_adapter`, `unsupported_media_type`, `model_not_found` and the other model errors,
   * `invalid_request` when no base model is named, `storage_full`, `quota_exceeded`, `service_unavailable` when too many
   * run, `timeout`; the reason of the signal
   */
  async import(chunks: AsyncIterable<Uint8Array>, options: ImportOptions): Promise<AdapterId> {
    if (this.#running >= MAX_AT_ONCE) {
      throw new ProductError('service_unavailable', 'Too many adapters are being imported. Try again in a moment.');
    }
    this.#running++;
    const { adapters } = this.#dependencies;
    const running: RunningImport = {
      options,
      bounds: { maxBytes: this.#dependencies.maxStoredBytes, room: options.room },
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

  /** Ends the checks that run; those who wait for them get service_unavailable. */
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
    // Who was to be told its id is gone, and what was held for it: large ones take a while to be published in S3.
    if (options.signal.aborted) {
      await adapters.delete(id);
      throw options.signal.reason;
    }
    return id;
  }
}
