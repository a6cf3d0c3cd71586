import type { AdapterId, AliasGuard, NameTarget, Owner } from '@lorasmith/contracts';
import type { DeliveryAttempt, DeliveryKind } from '../delivery-kind.js';

/** The names of adapters, for deliveries to them. */
export interface NamedAdapters {
  /** The adapter that the name points to; null: there is no such name. */
  adapterOf(of: { owner: Owner; name: string }): Promise<AdapterId | null>;
  /**
   * Checks what can be said before there is an adapter.
   * @throws ProductError `conflict` for the name of a base model; `dataset_not_found`; `invalid_request` for a dataset that cannot be compared on
   */
  check(target: NameTarget, owner: Owner): Promise<void>;
  /** Points the name at the adapter, if its guard allows that. @throws ProductError `guard_failed`, and as the call that moves a name */
  move(
    of: { owner: Owner; name: string },
    to: { adapter: AdapterId; guard: AliasGuard | null; signal: AbortSignal },
  ): Promise<void>;
}

/** Delivers to a name of this service: whoever asks for the name gets the adapter, and what follows the name is delivered, too. */
export function nameKind(names: NamedAdapters): DeliveryKind<NameTarget> {
  return {
    // Each owner has names of its own.
    placeOf: ({ name }, owner) => `name ${owner ?? 'none'} ${name}`,
    check: () => {},
    checkAdapter: () => {},
    checkOwner: async (target, owner) => names.check(target, owner),
    async deliver({ name, guard = null }, { manifest: { id: adapter, owner }, signal, report }: DeliveryAttempt) {
      const before = await names.adapterOf({ owner, name });
      // An attempt that was interrupted after the move finds its own adapter.
      report({ replaced: before === adapter ? null : before });
      await names.move({ owner, name }, { adapter, guard, signal });
    },
  };
}
