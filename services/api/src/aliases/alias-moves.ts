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
  type AliasGuard,
  type AliasMove,
  type KeyId,
  type MoveAliasRequest,
  ProductError,
  type RollBackAliasRequest,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import type { HeldOutLoss } from './held-out-loss.js';

export interface AliasMovesOptions {
  aliases: AliasStore;
  adapters: BundleStore;
  baseModels: Pick<ModelSource, 'describe'>;
  jobs: { inputs: Pick<JobStore['inputs'], 'whileNaming'> };
  losses: HeldOutLoss;
}

/** The sender of a move. */
export interface Mover {
  caller: Caller;
  /** Null without keys. */
  key: KeyId | null;
  /** Aborted when nobody waits for the answer any more. */
  signal: AbortSignal;
}

/** Points names at adapters that exist, and that have the same owner. */
export class AliasMoves {
  readonly #options: AliasMovesOptions;

  constructor(options: AliasMovesOptions) {
    this.#options = options;
  }

  /**
   * Points a name at an adapter. With a guard, it is not moved if another process moves it while losses are computed.
   * @throws ProductError `adapter_not_found`, also for one that the caller may not use; `invalid_adapter`; `invalid_request` for one of another owner;
   * `conflict` for the name of a base model; `guard_failed`; errors of {@link HeldOutLoss.of} and {@link AliasStore.move}
   */
  async point(of: OwnedName, request: MoveAliasRequest, by: Mover): Promise<Alias> {
    const { adapter: text, if_version: ifVersion, reason = null, guard: condition = null } = request;
    await this.#refuseModelName(of.name);
    const adapter = await this.#options.aliases.adapterOf(text, of.owner);
    if (adapter === null) throw atAdapter(adapterNotFound(text));
    try {
      const passed = condition === null ? NO_GUARD : await this.#checkGuard(of, adapter, { condition, ifVersion }, by);
      return await this.#move(of, adapter, { ifVersion, reason, rolled_back_to: null, ...passed }, by);
    } catch (error) {
      throw error instanceof ProductError && error.code === 'adapter_not_found' ? atAdapter(error) : error;
    }
  }

  /**
   * Checks a move before there is an adapter.
   * @throws ProductError `conflict` for the name of a base model; `dataset_not_found`, `invalid_request` for the dataset of the guard
   */
  async check(name: string, guard: AliasGuard | null, caller: Caller): Promise<void> {
    await this.#refuseModelName(name);
    if (guard !== null) await this.#options.losses.checkDataset(guard.dataset, caller).catch(atGuard);
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
    const reason = request.reason ?? null;
    const move = { ifVersion: alias.version, reason, rolled_back_to: originOf(target), guard: null };
    return await this.#move(of, target.adapter, move, by).catch((error: unknown) => {
      if (!(error instanceof ProductError) || error.code !== 'adapter_not_found') throw error;
      const message = `${of.name} cannot be rolled back to version ${target.version}: its adapter ${target.adapter} was deleted, or is being deleted. Send the version of another one.`;
      throw new ProductError('conflict', message, { param: 'version', cause: error });
    });
  }

  async #move(
    of: OwnedName,
    adapter: AdapterId,
    move: Pick<NewMove, 'ifVersion' | 'reason' | 'rolled_back_to' | 'guard'>,
    by: Mover,
  ): Promise<Alias> {
    const { aliases, jobs } = this.#options;
    // The adapter cannot be deleted between the look at its manifest and the move.
    return await jobs.inputs.whileNaming(adapter, async () => {
      const manifest = await this.#manifestOf(adapter, of, by);
      return await aliases.move(of, { adapter, base_model: manifest.base_model.name, moved_by: by.key, ...move });
    });
  }

  /** The manifest of an adapter to which this name may point. */
  async #manifestOf(adapter: AdapterId, of: OwnedName, { caller }: Mover): Promise<AdapterManifest> {
    const { adapters } = this.#options;
    const manifest = await readManifest(adapters, adapter, { isAllowed: (owner) => mayUse(caller, owner) });
    checkOwner(of, manifest);
    return manifest;
  }

  /**
   * Compares the new adapter with the present one.
   * @returns what the move records, and the version from which it may be made
   */
  async #checkGuard(
    of: OwnedName,
    adapter: AdapterId,
    { condition, ifVersion }: { condition: AliasGuard; ifVersion: number | undefined },
    by: Mover,
  ): Promise<Pick<NewMove, 'guard' | 'ifVersion'>> {
    const { aliases, adapters, losses } = this.#options;
    const present = await aliases.get(of);
    checkAliasVersion(of.name, present, ifVersion);
    if (present?.adapter === adapter) return { guard: null, ifVersion: present.version };
    const manifest = await this.#manifestOf(adapter, of, by);
    const compared = present === null ? [manifest] : [await readManifest(adapters, present.adapter), manifest];
    checkOneBase(of.name, compared);
    const { caller, signal } = by;
    const found = await losses.of({ dataset: condition.dataset, adapters: compared, caller, signal }).catch(atGuard);
    const [after, before = null] = found.toReversed() as [number, number?];
    const most = before === null ? Number.MAX_VALUE : before + condition.max_worse;
    // Neither holds for a loss that is no number.
    if (!(after <= most)) {
      throw guardFailed(condition, { name: of.name, before, after }, compared);
    }
    return { guard: { ...condition, before, after }, ifVersion: present?.version ?? 0 };
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

const NO_GUARD = { guard: null };

/** Names the field of faults of the dataset. */
function atGuard(error: unknown): never {
  if (!(error instanceof ProductError) || error.status >= 500) throw error;
  throw new ProductError(error.code, error.message, { param: 'guard.dataset', cause: error });
}

/** Losses over the tokens of different models say nothing about each other. */
function checkOneBase(name: string, [one, other]: readonly AdapterManifest[]): void {
  if (other === undefined || one!.base_model.name === other.base_model.name) return;
  const message = `${name} points to an adapter of ${one!.base_model.name}, and ${other.id} is of ${other.base_model.name}: their losses cannot be compared. Move it without a guard.`;
  throw new ProductError('conflict', message, { param: 'guard' });
}

function guardFailed(
  { dataset, max_worse: maxWorse }: AliasGuard,
  { name, before, after }: { name: string; before: number | null; after: number },
  adapters: readonly AdapterManifest[],
): ProductError {
  const found = `${name} was not moved: on ${dataset} the loss of ${adapters.at(-1)!.id} is ${shown(after)}`;
  const message =
    before === null
      ? `${found}.`
      : `${found}, and that of ${adapters[0]!.id}, to which it points, ${shown(before)}. It may exceed it by ${maxWorse}.`;
  return new ProductError('guard_failed', message, { param: 'guard' });
}

function shown(loss: number): string {
  return loss.toPrecision(6);
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
