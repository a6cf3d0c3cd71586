import { type AliasStore, aliasNotFound, type OwnedName } from '@lorasmith/artifacts';
import { pause } from '@lorasmith/concurrency';
import type { Alias, Delivery, OutsideTarget } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { Caller } from '@lorasmith/service-kit';
import type { FastifyBaseLogger } from 'fastify';
import type { DeliveriesOfMove, DeliveryRequests } from '../deliveries/delivery-requests.js';

export interface AliasDeliveriesOptions {
  aliases: Pick<AliasStore, 'get' | 'list' | 'setDeliveries'>;
  requests: Pick<DeliveryRequests, 'checkAll' | 'createOfMove'>;
  store: Pick<JobStore['deliveries'], 'ofMove' | 'toFollow' | 'forgetMoves'>;
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>;
}

const LOOK_MS = 60_000;
/** The wait after an error. */
const RETRY_MS = 5_000;

/**
 * Deliveries that follow names: each move of a name has deliveries of its own, to the places of the name. Names are files and deliveries are
 * in Redis, so a move and its deliveries are no single step. They are created after the move, and {@link startFollowing} creates what a process
 * left undone. Each is created once, and none of an earlier move after one of a later.
 */
export class AliasDeliveries {
  readonly #options: AliasDeliveriesOptions;

  constructor(options: AliasDeliveriesOptions) {
    this.#options = options;
  }

  /** Sets the places of a name, and delivers its adapter to those that are new. @throws ProductError `alias_not_found`, `invalid_delivery` */
  async set(of: OwnedName, targets: readonly OutsideTarget[], caller: Caller): Promise<Alias> {
    const { aliases, requests } = this.#options;
    if ((await aliases.get(of)) === null) throw aliasNotFound(of.name);
    await requests.checkAll(targets, caller, 'invalid_delivery');
    const alias = await aliases.setDeliveries(of, targets);
    await this.follow(alias);
    return alias;
  }

  /** Creates the deliveries of the present move. What fails is done by the next look: a move is not undone for it. */
  async follow(alias: Alias): Promise<void> {
    const { requests, log } = this.#options;
    if (alias.deliver.length === 0) return;
    await requests.createOfMove(moveOf(alias)).catch((error: unknown) => {
      log.warn({ err: error, alias: alias.name }, 'deliveries of a name could not be queued; they are tried again');
    });
  }

  /** Deliveries of the present move, in the order of the places. @throws ProductError `alias_not_found` */
  async of(of: OwnedName): Promise<Delivery[]> {
    const alias = await this.#options.aliases.get(of);
    if (alias === null) throw aliasNotFound(of.name);
    const { move, to } = moveOf(alias);
    return await this.#options.store.ofMove(move, to);
  }

  /** Forgets the moves of a name that is about to be removed: one of the same text may begin with the first move again. */
  async forget({ owner, name }: OwnedName): Promise<void> {
    await this.#options.store.forgetMoves(keyOf({ owner, name }));
  }

  /** Creates the deliveries that no process has created yet. */
  async catchUp(): Promise<void> {
    const { aliases, requests, store, log } = this.#options;
    const moves = (await aliases.list()).filter(({ deliver }) => deliver.length > 0).map(moveOf);
    for (const missing of await store.toFollow(moves)) {
      await requests.createOfMove(missing);
      log.info({ alias: missing.move.name, version: missing.move.version }, 'deliveries of a name queued');
    }
  }
}

/** Looks for moves whose deliveries a process did not create. @returns ends it */
export function startFollowing(deliveries: AliasDeliveries, log: FastifyBaseLogger): () => Promise<void> {
  const ending = new AbortController();
  const run = async () => {
    while (!ending.signal.aborted) {
      const waitMs = await deliveries.catchUp().then(
        () => LOOK_MS,
        (error: unknown) => {
          log.warn({ err: error }, 'names that deliveries follow could not be read');
          return RETRY_MS;
        },
      );
      await pause(waitMs, ending.signal);
    }
  };
  const ended = run();
  return async () => {
    ending.abort();
    await ended;
  };
}

function keyOf({ owner, name }: OwnedName): string {
  return `${owner ?? 'none'}.${name}`;
}

function moveOf({ name, owner, version, moved_at: at, adapter, deliver }: Alias): DeliveriesOfMove {
  return { move: { key: keyOf({ owner, name }), name, version, at }, owner, adapter, to: deliver };
}
