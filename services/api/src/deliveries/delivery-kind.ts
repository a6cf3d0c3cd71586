import type { AdapterManifest, Delivery, DeliveryKindName, DeliveryTarget } from '@lorasmith/contracts';
import type { FastifyBaseLogger } from 'fastify';

/** The operator's settings of deliveries. */
export interface DeliveryConfig {
  /** The addresses of the vLLM servers that may be called; empty: none. */
  servers: readonly string[];
  /** Sent to these servers as `Authorization: Bearer …`; null: nothing is. */
  serverKey: string | null;
  /** The folder into which adapters are delivered; null: none. */
  folder: string | null;
  /** The path under which the servers see this folder; null: the same. */
  folderOnServer: string | null;
}

export const NO_DELIVERIES: DeliveryConfig = { servers: [], serverKey: null, folder: null, folderOnServer: null };

/** An attempt to deliver an adapter. */
export interface DeliveryAttempt {
  manifest: AdapterManifest;
  /** The state that an earlier attempt kept; null: none. */
  state: unknown;
  /** Keeps a state for a later attempt, also of another process. It is durable once the promise resolves. */
  keep(state: object): Promise<void>;
  /** Adds facts to the record of the delivery. They are written with the next change of it. */
  report(facts: Partial<Pick<Delivery, 'probe' | 'replaced'>>): void;
  /** Aborted with a `CancelledError`, and what was there before is to be restored; or with another reason if another process takes over, which starts again. */
  signal: AbortSignal;
  log: FastifyBaseLogger;
}

/** A way in which adapters are delivered. */
export interface DeliveryKind<Target extends DeliveryTarget = DeliveryTarget> {
  /** The name of what is replaced. Deliveries to the same place run one after the other. */
  placeOf(target: Target): string;
  /** Checks that the settings allow such a delivery. @throws ProductError `invalid_delivery` */
  check(target: Target): void;
  /** Checks that the adapter can be delivered so. @throws ProductError `invalid_delivery` */
  checkAdapter(target: Target, manifest: AdapterManifest): void;
  /**
   * Delivers: afterwards the adapter is there, or what was there before. It may be called again after it was interrupted anywhere.
   * @throws ProductError with the reason; one with status 503 or 507 may go away, and the delivery is tried again
   */
  deliver(target: Target, attempt: DeliveryAttempt): Promise<void>;
}

/** Each kind under its name. */
export type DeliveryKinds = {
  readonly [Name in DeliveryKindName]: DeliveryKind<Extract<DeliveryTarget, { kind: Name }>>;
};

/** The kind of a target. */
export function kindOf(kinds: DeliveryKinds, { kind }: DeliveryTarget): DeliveryKind {
  return kinds[kind] as DeliveryKind;
}
