import {
  type AliasStore,
  adapterNotFound,
  aliasNotFound,
  checkAliasVersion,
  type NewMove,
  type OwnedName,
  readManifest,
} from '@lorasmith/artifacts';
import type { ModelSource } from '@lorasmith/base-models';
import {
  type AdapterId,
  type AdapterManifest,
  type Alias,
  type AliasMove,
  type KeyId,
  type MoveAliasRequest,
  ProductError,
  type RollBackAliasRequest,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';

export interface AliasMovesOptions {
  aliases: AliasStore;
  adapters: BundleStore;
  baseModels: Pick<ModelSource, 'describe'>;
  jobs: { inputs: Pick<JobStore['inputs'], 'whileNaming'> };
}

/** The sender of a move. */
export interface Mover {
  caller: Caller;
  /** Null without keys. */
  key: KeyId | null;
}

/** Points names at adapters that exist, and that have the same owner. */
export class AliasMoves {
  readonly #options: AliasMovesOptions;

  constructor(options: AliasMovesOptions) {
    this.#options = options;
  }

  /**
   * Points a name at an adapter.
   * @throws ProductError `adapter_not_found`, also for one that the caller may not use; `invalid_adapter`; `invalid_request` for one of another owner;
   * `conflict` for the name of a base model; errors of {@link AliasStore.move}
   */
  async point(of: OwnedName, request: MoveAliasRequest, by: Mover): Promise<Alias> {
    const { adapter: text, if_version: ifVersion, reason = null } = request;
    await this.#refuseModelName(of.name);
    const adapter = await this.#options.aliases.adapterOf(text, of.owner);
    if (adapter === null) throw atAdapter(adapterNotFound(text));
    return await this.#move(of, adapter, { ifVersion, reason, rolled_back_to: null }, by).catch((error: unknown) => {
      throw error instanceof ProductError && error.code === 'adapter_not_found' ? atAdapter(error) : error;
    });
  }

  /**
   * Points a name at an adapter that it pointed to before. It is not moved if another process moves it meanwhile.
   * @throws ProductError `alias_not_found`; `conflict` if there is no such version, or its adapter was deleted; errors of {@link AliasStore.move}
   */
  async rollBack(of: OwnedName, request: RollBackAliasRequest, by: Mover): Promise<Alias> {
    const alias = await this.#options.aliases.get(of);
    if (alias === null) throw aliasNotFound(of.name);
    checkAliasVersion(of.name, alias, request.if_version);
    const target = request.version === undefined ? moveBefore(alias) : moveOf(alias, request.version);
    const move = { ifVersion: alias.version, reason: request.reason ?? null, rolled_back_to: originOf(target) };
    return await this.#move(of, target.adapter, move, by).catch((error: unknown) => {
      if (!(error instanceof ProductError) || error.code !== 'adapter_not_found') throw error;
      const message = `${of.name} cannot be rolled back to version ${target.version}: its adapter ${target.adapter} was deleted. Send the version of another one.`;
      throw new ProductError('conflict', message, { param: 'version', cause: error });
    });
  }

  async #move(
    of: OwnedName,
    adapter: AdapterId,
    move: Pick<NewMove, 'ifVersion' | 'reason' | 'rolled_back_to'>,
    by: Mover,
  ): Promise<Alias> {
    const { aliases, adapters, jobs } = this.#options;
    // The adapter cannot be deleted between the look at its manifest and the move.
    return await jobs.inputs.whileNaming(adapter, async () => {
      const manifest = await readManifest(adapters, adapter, { isAllowed: (owner) => mayUse(by.caller, owner) });
      checkOwner(of, manifest);
      return await aliases.move(of, { adapter, base_model: manifest.base_model.name, moved_by: by.key, ...move });
    });
  }

  /** @throws ProductError `conflict`: a request for text could mean either. */
  async #refuseModelName(name: string): Promise<void> {
    const isFree = await this.#options.baseModels.describe(name).then(
      () => false,
      (error: unknown) => {
        if (error instanceof ProductError && error.code === 'model_not_found') return true;
        throw error;
      },
    );
    if (isFree) return;
    const message = `${name} is the name of a base model. Choose another name for an adapter.`;
    throw new ProductError('conflict', message, { param: 'name' });
  }
}

/** An owner's names point to its own adapters, so whoever may use the name may use the adapter. */
function checkOwner({ owner, name }: OwnedName, { id, owner: ofAdapter }: AdapterManifest): void {
  if (ofAdapter === owner) return;
  const message = `${id} belongs to ${ofAdapter ?? 'no key'}, and ${name} would belong to ${owner ?? 'no key'}. Both need one owner: send ?owner=${ofAdapter ?? 'none'}.`;
  throw new ProductError('invalid_request', message, { param: 'owner' });
}

function atAdapter(error: ProductError): ProductError {
  return new ProductError(error.code, error.message, { param: 'adapter', cause: error });
}

/** The version whose adapter a move has, which is an earlier one after a roll back. */
function originOf({ version, rolled_back_to: earlier }: AliasMove): number {
  return earlier ?? version;
}

/** The move before the one that the present adapter comes from: rolling back twice goes back by two. */
function moveBefore({ name, history }: Alias): AliasMove {
  const origin = originOf(history[0]!);
  const before = history.find(({ version }) => version < origin);
  if (before !== undefined) return before;
  throw new ProductError('conflict', `${name} cannot be rolled back: its history has no earlier adapter.`);
}

function moveOf({ name, history }: Alias, version: number): AliasMove {
  const found = history.find((move) => move.version === version);
  if (found !== undefined) return found;
  const message = `${name} has no version ${version}: its history has ${history.at(-1)!.version} to ${history[0]!.version}.`;
  throw new ProductError('conflict', message, { param: 'version' });
}
