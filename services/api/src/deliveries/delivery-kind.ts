import {
  type AdapterManifest,
  type Delivery,
  type DeliveryKindName,
  type DeliveryTarget,
  type Owner,
  ProductError,
} from '@lorasmith/contracts';
import type { Caller } from '@lorasmith/service-kit';
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
  /** The buckets into which adapters may be delivered; empty: none. */
  buckets: readonly string[];
  /** The service of these buckets. */
  s3: {
    /** null: Amazon's own, in the region. */
    endpoint: string | null;
    region: string;
    forcePathStyle: boolean;
    /** null, both: the credentials come from the standard places. */
    accessKeyId: string | null;
    secretAccessKey: string | null;
  };
  hub: {
    /** Such as `https://huggingface.co`. */
    endpoint: string;
    /** True if nothing is sent to the hub. */
    offline: boolean;
  };
}

export const NO_DELIVERIES: DeliveryConfig = {
  servers: [],
  serverKey: null,
  folder: null,
  folderOnServer: null,
  buckets: [],
  s3: { endpoint: null, region: 'us-east-1', forcePathStyle: false, accessKeyId: null, secretAccessKey: null },
  hub: { endpoint: 'https://huggingface.co', offline: true },
};

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
  placeOf(target: Target, owner: Owner): string;
  /** Checks that the settings allow such a delivery. @throws ProductError `invalid_delivery` */
  check(target: Target): void;
  /** Checks that the adapter can be delivered so. @throws ProductError `invalid_delivery` */
  checkAdapter(target: Target, manifest: AdapterManifest): void;
  /**
   * Checks what the owner of the adapter must have stored, before the delivery is queued, and that the caller may use that.
   * @throws ProductError `invalid_delivery`, `redis_unavailable`
   */
  checkOwner(target: Target, owner: Owner, caller: Caller): Promise<void>;
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

/**
 * Checks the settings against those of the store.
 * @throws ProductError `invalid_configuration` for a bucket of which the names are the service's own, and for half of the credentials
 */
export function checkDeliveryConfig(
  { buckets, s3 }: Pick<DeliveryConfig, 'buckets' | 's3'>,
  store: { backend: string; bucket: string },
): void {
  const wrong = (param: string, what: string) =>
    new ProductError('invalid_configuration', `The environment is invalid:\n  ${param} ${what}`, { param });
  if (store.backend === 's3' && buckets.includes(store.bucket)) {
    throw wrong('DELIVERY_BUCKETS', 'has S3_BUCKET, in which the service keeps its own things. Use another bucket.');
  }
  if ((s3.accessKeyId === null) === (s3.secretAccessKey === null)) return;
  const missing = s3.accessKeyId === null ? 'DELIVERY_S3_ACCESS_KEY_ID' : 'DELIVERY_S3_SECRET_ACCESS_KEY';
  throw wrong(missing, 'must be set, since the other half of the credentials is.');
}
