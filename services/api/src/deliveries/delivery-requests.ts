import { readManifest } from '@lorasmith/artifacts';
import type { AdapterId, Delivery, DeliveryTarget, Owner } from '@lorasmith/contracts';
import { ProductError } from '@lorasmith/contracts';
import type { DeliveriesOfJob, FollowedMove, JobStore } from '@lorasmith/queue';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import { type DeliveryKinds, kindOf } from './delivery-kind.js';

export interface DeliveryRequestsOptions {
  store: JobStore['deliveries'];
  adapters: Pick<BundleStore, 'has' | 'readJson'>;
  kinds: DeliveryKinds;
}

/** The deliveries of the present move of a name. */
export interface DeliveriesOfMove {
  move: FollowedMove;
  owner: Owner;
  adapter: AdapterId;
  to: readonly DeliveryTarget[];
}

/** Checks and queues deliveries: those that calls ask for, those of jobs, and those that follow a name. */
export class DeliveryRequests {
  readonly #options: DeliveryRequestsOptions;

  constructor(options: DeliveryRequestsOptions) {
    this.#options = options;
  }

  /**
   * Checks the deliveries of a job, a sweep or a name before they are stored.
   * @param code - the code of its faults
   * @throws ProductError with this code for one that could not be made; `redis_unavailable`
   */
  async checkAll(
    targets: readonly DeliveryTarget[],
    caller: Caller,
    code: 'invalid_job' | 'invalid_sweep' | 'invalid_delivery',
  ) {
    const { kinds } = this.#options;
    for (const [index, target] of targets.entries()) {
      const kind = kindOf(kinds, target);
      try {
        kind.check(target);
        await kind.checkOwner(target, caller.owner, caller);
      } catch (error) {
        if (!(error instanceof ProductError) || error.status >= 500) throw error;
        const inner = error.param === undefined ? '' : `.${error.param}`;
        throw new ProductError(code, error.message, { param: `deliver.${index}${inner}` });
      }
    }
    const places = targets.map((target) => kindOf(kinds, target).placeOf(target, caller.owner));
    const twice = places.findIndex((place, index) => places.indexOf(place) < index);
    if (twice === -1) return;
    const message = 'Two deliveries go to the same place: one would replace the other.';
    throw new ProductError(code, message, { param: `deliver.${twice}` });
  }

  /**
   * Queues the delivery of an adapter, after every check that needs no server.
   * @throws ProductError `adapter_not_found`, `invalid_delivery`, `conflict`, `queue_full`
   */
  async request(id: AdapterId, to: DeliveryTarget, caller: Caller): Promise<Delivery> {
    const { store, kinds } = this.#options;
    const manifest = await this.#manifest(id, caller);
    const kind = kindOf(kinds, to);
    kind.check(to);
    kind.checkAdapter(to, manifest);
    await kind.checkOwner(to, manifest.owner, caller);
    const place = kind.placeOf(to, manifest.owner);
    return await store.create({
      adapter: manifest.id,
      owner: manifest.owner,
      to,
      place,
      mayReplaceAny: caller.sees === 'all',
    });
  }

  /** The deliveries of an adapter, newest first. @throws ProductError `adapter_not_found` */
  async ofAdapter(id: string, caller: Caller): Promise<Delivery[]> {
    const manifest = await this.#manifest(id, caller);
    return await this.#options.store.ofAdapter(manifest.id);
  }

  /** Queues the deliveries of a job that has succeeded, each once, however often this is called. */
  async createOfJob({ job, owner, adapter, webhookUrl, to: targets }: DeliveriesOfJob): Promise<void> {
    const { store, kinds } = this.#options;
    for (const [index, to] of targets.entries()) {
      const place = kindOf(kinds, to).placeOf(to, owner);
      await store.create({ adapter, owner, to, place, mayReplaceAny: false, ofJob: { job, index, webhookUrl } });
    }
    await store.createdOfJob(job);
  }

  /** Queues the deliveries of a move of a name, each once, however often this is called. */
  async createOfMove({ move, owner, adapter, to: targets }: DeliveriesOfMove): Promise<void> {
    const { store, kinds } = this.#options;
    for (const to of targets) {
      const place = kindOf(kinds, to).placeOf(to, owner);
      await store.create({ adapter, owner, to, place, mayReplaceAny: false, ofMove: move });
    }
    await store.createdOfMove(move, targets);
  }

  async #manifest(id: string, caller: Caller) {
    return await readManifest(this.#options.adapters, id, { isAllowed: (owner) => mayUse(caller, owner) });
  }
}
