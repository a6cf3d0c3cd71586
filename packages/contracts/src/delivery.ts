import { type Static, Type } from 'typebox';
import { AliasGuard, AliasName } from './alias-name.js';
import { HubRepository, HubRevision } from './model.js';
import { AdapterId, closed, DeliveryId, JobId, MODEL_NAME_PATTERN, Nullable, Owner } from './schema-parts.js';

/** Deliveries that a job may ask for. */
const MAX_OF_JOB = 8;
const MAX_URL_CHARACTERS = 2048;
/** Limits, for docs/limits.md. */
export const deliveryRequestLimits = {
  ofJob: { value: MAX_OF_JOB, unit: 'deliveries', beyond: '400 `invalid_request`' },
};

const name = (description: string) => Type.String({ pattern: MODEL_NAME_PATTERN, description, examples: ['dates'] });
const layout = Type.Optional(
  Type.Enum(['peft', 'per-expert'], {
    default: 'peft',
    description:
      'per-expert: an adapter of experts with two matrices for each projection of each expert, as vLLM reads most families.',
  }),
);

/** A vLLM server that loads adapters while it runs. */
export const VllmTarget = Type.Object(
  {
    kind: Type.Literal('vllm'),
    url: Type.String({
      minLength: 8,
      maxLength: MAX_URL_CHARACTERS,
      description: 'Address of the server, one of those in `DELIVERY_SERVERS`.',
      examples: ['http://127.0.0.1:8000'],
    }),
    name: name('The model name under which the server answers with the adapter. What has this name now is replaced.'),
    layout,
  },
  { $id: 'VllmTarget', ...closed },
);
export type VllmTarget = Static<typeof VllmTarget>;

/** A folder below `DELIVERY_FOLDER`. */
export const FolderTarget = Type.Object(
  {
    kind: Type.Literal('folder'),
    name: name('The folder, below `folders` in the delivery folder. Its content is replaced in one step.'),
    layout,
  },
  { $id: 'FolderTarget', ...closed },
);
export type FolderTarget = Static<typeof FolderTarget>;

const merged = Type.Optional(
  Type.Boolean({ default: false, description: 'true: the model merged with the adapter, instead of the adapter.' }),
);

/** A repository of the Hugging Face hub. */
export const HubTarget = Type.Object(
  {
    kind: Type.Literal('hub'),
    repository: Type.Unsafe<string>({
      ...HubRepository,
      description:
        'The repository of a model: organisation or user, a slash, and its name. It is made if there is none.',
      examples: ['my-org/dates'],
    }),
    merged,
    private: Type.Optional(
      Type.Boolean({ default: true, description: 'Of a repository that is made. One that exists stays as it is.' }),
    ),
    revision: Type.Optional(
      Type.Unsafe<string>({ ...HubRevision, default: 'main', description: 'A branch. It is made if there is none.' }),
    ),
  },
  { $id: 'HubTarget', ...closed },
);
export type HubTarget = Static<typeof HubTarget>;

/** A folder in an S3 bucket. */
export const BucketTarget = Type.Object(
  {
    kind: Type.Literal('s3'),
    bucket: Type.String({
      pattern: '^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$',
      description: 'One of those in `DELIVERY_BUCKETS`.',
      examples: ['models'],
    }),
    prefix: Type.String({
      pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$',
      maxLength: 256,
      description:
        'What the names of the objects begin with. `PREFIX/latest.json` names the files of the newest adapter.',
      examples: ['adapters/dates'],
    }),
    layout,
    merged,
  },
  { $id: 'BucketTarget', ...closed },
);
export type BucketTarget = Static<typeof BucketTarget>;

/** A place outside this service. */
export const OutsideTarget = Type.Union([VllmTarget, FolderTarget, HubTarget, BucketTarget], { $id: 'OutsideTarget' });
export type OutsideTarget = Static<typeof OutsideTarget>;

/** A name of this service, which points at the adapter from then on. */
export const NameTarget = Type.Object(
  {
    kind: Type.Literal('name'),
    name: AliasName,
    guard: Type.Optional(
      Nullable(AliasGuard, {
        description:
          'Move the name only if the new adapter is not worse. Otherwise the delivery fails with `guard_failed`.',
      }),
    ),
  },
  { $id: 'NameTarget', ...closed },
);
export type NameTarget = Static<typeof NameTarget>;

/** The body of `POST /adapters/:id/deliveries`: where an adapter is delivered to. It has no secrets. */
export const DeliveryTarget = Type.Union([...OutsideTarget.anyOf, NameTarget], { $id: 'DeliveryTarget' });
export type DeliveryTarget = Static<typeof DeliveryTarget>;
export type DeliveryKindName = DeliveryTarget['kind'];

/** The words for a kind of place, and the field of the target that names it. */
interface PlaceWords<Target> {
  text(target: Target): string;
  field: keyof Target & string;
}
const PLACES: { [Name in DeliveryKindName]: PlaceWords<Extract<DeliveryTarget, { kind: Name }>> } = {
  vllm: { text: ({ name, url }) => `${name} at ${url}`, field: 'name' },
  folder: { text: ({ name }) => `folder ${name}`, field: 'name' },
  hub: {
    text: ({ repository, revision }) => `hub ${repository}${revision === undefined ? '' : ` (${revision})`}`,
    field: 'repository',
  },
  name: { text: ({ name }) => `name ${name}`, field: 'name' },
  s3: { text: ({ bucket, prefix }) => `s3://${bucket}/${prefix}`, field: 'prefix' },
};

/** The place that a delivery goes to, for people. */
export function deliveryPlace(to: DeliveryTarget): string {
  return (PLACES[to.kind] as PlaceWords<DeliveryTarget>).text(to);
}

/** The field of a target that names its place among those of the same kind. */
export function deliveryPlaceField({ kind }: DeliveryTarget): string {
  return PLACES[kind].field;
}

/** The field `deliver` of a job. */
export const JobDeliveries = Type.Array(DeliveryTarget, {
  minItems: 1,
  maxItems: MAX_OF_JOB,
  description: 'Where the adapter is delivered to once the job has succeeded.',
});

/** The field `deliver` of a sweep. */
export const SweepDeliveries = Type.Array(DeliveryTarget, {
  minItems: 1,
  maxItems: MAX_OF_JOB,
  description: 'Where the adapter of the best variant is delivered to once the sweep has succeeded.',
});

export const DELIVERY_STATUSES = ['queued', 'running', 'delivered', 'failed', 'cancelled'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];
/** The statuses of a delivery that no longer changes. */
export const ENDED_DELIVERY_STATUSES: readonly DeliveryStatus[] = ['delivered', 'failed', 'cancelled'];

const distance = Nullable(Type.Number(), { description: 'Null if the server returns no log-probabilities.' });

/** The answer of the server to the probe of the adapter. */
export const DeliveryProbe = Type.Object(
  {
    verdict: Type.Enum(['adapter', 'base', 'neither', 'undecided'], {
      description: 'adapter: the server answers with the numbers of the adapter. Only then it is delivered.',
    }),
    adapter_distance: distance,
    base_distance: distance,
  },
  { $id: 'DeliveryProbe', ...closed },
);
export type DeliveryProbe = Static<typeof DeliveryProbe>;

/** An adapter on its way to where it is used. */
export const Delivery = Type.Object(
  {
    id: DeliveryId,
    object: Type.Literal('delivery'),
    adapter: AdapterId,
    owner: Owner,
    job: Nullable(JobId, { description: 'The job that asked for it in `deliver`; null: a call did.' }),
    alias: Nullable(Type.Object({ name: Type.String(), version: Type.Integer({ minimum: 1 }) }, closed), {
      description: 'The name that it follows, and the move of it; null: a call or a job asked.',
    }),
    to: DeliveryTarget,
    status: Type.Enum([...DELIVERY_STATUSES]),
    attempts: Type.Integer({ minimum: 0 }),
    next_attempt_at: Nullable(Type.String(), { description: 'While it waits after a failed attempt.' }),
    error: Nullable(Type.Object({ code: Type.String(), message: Type.String() }, closed), {
      description: 'Why it failed; while it is queued, why the last attempt failed.',
    }),
    probe: Nullable(DeliveryProbe, {
      description: 'Of the last attempt that came so far; null where no server answers.',
    }),
    replaced: Nullable(AdapterId, {
      description: 'The adapter that was there before, if a delivery had put it there.',
    }),
    created_at: Type.String(),
    started_at: Nullable(Type.String()),
    ended_at: Nullable(Type.String()),
  },
  { $id: 'Delivery', ...closed },
);
export type Delivery = Static<typeof Delivery>;

/** Answer of `GET /adapters/:id/deliveries`. */
export const DeliveryList = Type.Object({ data: Type.Array(Delivery) }, { $id: 'DeliveryList', ...closed });

export const DELIVERY_EVENT_TYPES = [
  'delivery-queued',
  'delivery-started',
  'delivery-postponed',
  'delivery-delivered',
  'delivery-failed',
  'delivery-cancelled',
] as const;
export type DeliveryEventType = (typeof DELIVERY_EVENT_TYPES)[number];
/** The last event of a delivery is one of these. */
export const LAST_DELIVERY_EVENT_TYPES: readonly DeliveryEventType[] = [
  'delivery-delivered',
  'delivery-failed',
  'delivery-cancelled',
];
