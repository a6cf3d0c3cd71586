import { createHash } from 'node:crypto';
import type {
  AdapterId,
  ComparisonId,
  DatasetId,
  DeliveryId,
  JobId,
  JobStatus,
  Owner,
  SweepId,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';

/** A dataset, or the adapter that a job begins from. */
export type InputId = DatasetId | AdapterId;

/** The names of all Redis keys of the job store. All start with the prefix, which needs a `{hash tag}` for a cluster. */
export interface JobKeys {
  /** Hash: the record of a job. */
  job(id: JobId): string;
  /** Stream: the events of a job. */
  events(id: JobId): string;
  /** Sorted set by when they ended, in milliseconds: the jobs whose events are still to be thinned. */
  eventsToThin: string;
  /** Sorted set by sequence number: the jobs with this status. */
  withStatus(status: JobStatus): string;
  /** Sorted set by sequence number: every job. */
  all: string;
  /** Sorted set by sequence number: the jobs of this API key, or those without an owner. */
  ofOwner(owner: Owner): string;
  /** Hash: what jobs are found by. See {@link searchFacts}. */
  searchFacts: string;
  /** Hash: the record of a sweep. */
  sweep(id: SweepId): string;
  /** Stream: the events of a sweep. */
  sweepEvents(id: SweepId): string;
  /** Sorted set by sequence number: every sweep. */
  sweeps: string;
  /** Sorted set by sequence number: the sweeps of this API key, or those without an owner. */
  sweepsOf(owner: Owner): string;
  /** Set: the sweeps of which something is still to be done. */
  activeSweeps: string;
  /** Hash by unfinished job: `bytes:owner`, where the bytes are the maximum size of its adapter. */
  reservedBytes: string;
  /** Counter: the order of jobs in lists. */
  sequence: string;
  /** Set: the unfinished jobs that read this dataset, to train or to evaluate on, or begin from this adapter. */
  activeOfInput(id: InputId): string;
  /** String, for a minute: the dataset or adapter is being deleted, and no job can start to read it. */
  inputDeletion(id: InputId): string;
  /** Marks of requests that point a name at the adapter now. */
  namingOfInput(id: InputId): string;
  /** String, for a minute unless renewed: the files of the ended job are being removed, and it cannot be resumed. */
  cleanup(id: JobId): string;
  /** String: a worker does this work for all, or has done it and it is not due yet. */
  sharedWork(name: string): string;
  /** Hash: the job that an idempotency key of this owner created. */
  idempotency(key: string, owner: Owner): string;
  /** Hash by unfinished job: its QueueEntry, as JSON. */
  queueEntries: string;
  /** Stream: the last changes of these entries, with the new JSON or '' for a removed one. */
  queueChanges: string;
  /** Hash by key ('' for none): the number of its unfinished jobs. */
  keyJobs: string;
  /** Hash by key: the number of positions that its line has had. */
  keyPositions: string;
  /** Hash by key: the tokens that its jobs have trained, divided by its weight. */
  keyUsed: string;
  /** Hash by key: when a worker last gave up one of its jobs, in milliseconds. */
  keyServed: string;
  /** String: what the key had used whose job ended last, when no other was unfinished. */
  keyClock: string;
  /** Hash by key: its weight, where it is not 1. */
  keyWeights: string;
  /** Hash by job: the worker that has paused others for it, and until when that counts. */
  queueTargets: string;
  /** Hash by worker name: its WorkerPresence, as JSON, and when it said so. */
  queueWorkers: string;
  /** Hash by worker name: what it does before its first job, as JSON, and when it said so. */
  workerStarts: string;
  /** String, for some seconds: the worker that takes a job now. */
  queueLock: string;
  /** Sorted set by when they are due, in milliseconds: the ids of webhooks that are to be sent. */
  webhooksDue: string;
  /** Hash by webhook: what is sent, as JSON; under `id:attempts` how many attempts have failed. */
  webhookMessages: string;
  /** String: set if the ends of all jobs and sweeps are sent to the address in the settings of the api. */
  webhookForAll: string;
  /** Sorted set by when they are due, in milliseconds: the ids of gradings that wait for the webhook of a grader. */
  gradingsDue: string;
  /** Hash by grading: what is sent, as JSON; under `id:attempts` how many attempts have failed. */
  gradingMessages: string;
  /** String, for an hour: the outcome of a grading, as JSON. */
  gradingOutcome(id: string): string;
  /** Channel that receives a notice when there is a new grading. */
  gradingChannel: string;
  /** Channel that receives the id of a grading when it has an outcome. */
  gradedChannel: string;
  /** Hash: everything about deliveries. See `deliveries.lua`. */
  deliveries: string;
  /** Sorted set by when they are due, in milliseconds: the unfinished deliveries. */
  deliveriesDue: string;
  /** Hash by digest of a place: the delivery to it that was taken. */
  deliveriesActive: string;
  /** Hash by digest of a place: the delivery that is there now. */
  deliveriesCurrent: string;
  /** Sorted set by sequence number: every delivery. */
  deliveriesAll: string;
  /** Sorted set by name: every delivery as `adapter:sequence:id`. */
  deliveriesByAdapter: string;
  /** Hash by name of an adapter: the move whose deliveries were created last, and under `NAME:done` what of it is complete. */
  deliveriesFollowed: string;
  /** Stream: the events of a delivery. */
  deliveryEvents(id: DeliveryId): string;
  /** Hash by `kind:status`: the number of deliveries that have ended so. */
  deliveriesEnded: string;
  /** Hash by job that has succeeded: its deliveries that are still to be created, as JSON. */
  jobDeliveries: string;
  /** Hash: the record of a comparison, and who works on it. */
  comparison(id: ComparisonId): string;
  /** Hash by number: the rows of a comparison, as JSON. */
  comparisonRows(id: ComparisonId): string;
  /** Stream: the events of a comparison. */
  comparisonEvents(id: ComparisonId): string;
  /** Sorted set by sequence number: every comparison. */
  comparisons: string;
  /** Sorted set by sequence number: the comparisons of this API key, or those without an owner. */
  comparisonsOf(owner: Owner): string;
  /** Sorted set by when they are due, in milliseconds: the unfinished comparisons. */
  comparisonsDue: string;
  /** Channel that receives the id of a job, a sweep, a delivery or a comparison when it has a new event. */
  eventChannel: string;
  /** Hash by worker name: the measured profiles of the workers' machines. */
  machines: string;
  /** Prefix of BullMQ's own keys. */
  queuePrefix: string;
}

export function jobKeys(prefix: string): JobKeys {
  return {
    job: (id) => `${prefix}job:${id}`,
    events: (id) => `${prefix}job:${id}:events`,
    eventsToThin: `${prefix}jobs:events-to-thin`,
    withStatus: (status) => `${prefix}jobs:${status}`,
    all: `${prefix}jobs`,
    ofOwner: (owner) => `${prefix}owner:${owner ?? 'none'}:jobs`,
    searchFacts: `${prefix}jobs:search-facts`,
    sweep: (id) => `${prefix}sweep:${id}`,
    sweepEvents: (id) => `${prefix}sweep:${id}:events`,
    sweeps: `${prefix}sweeps`,
    sweepsOf: (owner) => `${prefix}owner:${owner ?? 'none'}:sweeps`,
    activeSweeps: `${prefix}sweeps:active`,
    reservedBytes: `${prefix}jobs:reserved-bytes`,
    sequence: `${prefix}jobs:sequence`,
    activeOfInput: (id) => `${prefix}input:${id}:active-jobs`,
    inputDeletion: (id) => `${prefix}input:${id}:deletion`,
    namingOfInput: (id) => `${prefix}input:${id}:naming`,
    cleanup: (id) => `${prefix}job:${id}:cleanup`,
    sharedWork: (name) => `${prefix}shared-work:${name}`,
    // Hashed, so that a client decides neither the length nor the characters of a Redis key.
    idempotency: (key, owner) => {
      const own = owner === null ? key : `${owner} ${key}`;
      return `${prefix}idempotency:${createHash('sha256').update(own).digest('hex')}`;
    },
    queueEntries: `${prefix}queue-entries`,
    queueChanges: `${prefix}queue-changes`,
    keyJobs: `${prefix}queue-key-jobs`,
    keyPositions: `${prefix}queue-key-places`,
    keyUsed: `${prefix}queue-key-used`,
    keyServed: `${prefix}queue-key-served`,
    keyClock: `${prefix}queue-key-clock`,
    keyWeights: `${prefix}api-keys:weights`,
    queueTargets: `${prefix}queue-targets`,
    queueWorkers: `${prefix}queue-workers`,
    workerStarts: `${prefix}worker-starts`,
    queueLock: `${prefix}queue-lock`,
    webhooksDue: `${prefix}webhooks:due`,
    webhookMessages: `${prefix}webhooks:messages`,
    webhookForAll: `${prefix}webhooks:for-all`,
    gradingsDue: `${prefix}gradings:due`,
    gradingMessages: `${prefix}gradings:messages`,
    gradingOutcome: (id) => `${prefix}gradings:outcome:${id}`,
    gradingChannel: `${prefix}gradings:new`,
    gradedChannel: `${prefix}gradings:graded`,
    deliveries: `${prefix}deliveries`,
    deliveriesDue: `${prefix}deliveries:due`,
    deliveriesActive: `${prefix}deliveries:active`,
    deliveriesCurrent: `${prefix}deliveries:current`,
    deliveriesAll: `${prefix}deliveries:all`,
    deliveriesByAdapter: `${prefix}deliveries:by-adapter`,
    deliveriesFollowed: `${prefix}deliveries:followed`,
    deliveryEvents: (id) => `${prefix}delivery:${id}:events`,
    deliveriesEnded: `${prefix}deliveries:ended`,
    jobDeliveries: `${prefix}jobs:deliveries`,
    comparison: (id) => `${prefix}comparison:${id}`,
    comparisonRows: (id) => `${prefix}comparison:${id}:rows`,
    comparisonEvents: (id) => `${prefix}comparison:${id}:events`,
    comparisons: `${prefix}comparisons`,
    comparisonsOf: (owner) => `${prefix}owner:${owner ?? 'none'}:comparisons`,
    comparisonsDue: `${prefix}comparisons:due`,
    eventChannel: `${prefix}job-events`,
    machines: `${prefix}machines`,
    queuePrefix: `${prefix}queue`,
  };
}

/** The names of all Redis keys of requests for text. All start with the prefix, which needs a `{hash tag}` for a cluster. */
export interface GenerationKeys {
  /** Sorted set by the time until which it may wait: the requests that no worker has claimed, as `id base`. */
  waiting: string;
  /** String, for a few seconds unless renewed by the api that asks: a request as JSON. Without it nobody wants an answer. */
  request(id: string): string;
  /** String, for a few seconds unless renewed by the worker that answers: its name. */
  claim(id: string): string;
  /** List: chunks of the answer that the api has not read yet, as JSON. */
  chunks(id: string): string;
  /** Channel on which a request is announced to the workers. */
  requestChannel: string;
  /** Channel that receives the id of a request when its answer has a new chunk. */
  chunkChannel: string;
}

export function generationKeys(prefix: string): GenerationKeys {
  return {
    waiting: `${prefix}generation:waiting`,
    request: (id) => `${prefix}generation:request:${id}`,
    claim: (id) => `${prefix}generation:claim:${id}`,
    chunks: (id) => `${prefix}generation:pieces:${id}`,
    requestChannel: `${prefix}generation:requests`,
    chunkChannel: `${prefix}generation:new-pieces`,
  };
}

/** The notice on `requestChannel`. */
export const NEW_REQUEST = 'new';

/** The names of all Redis keys of training sessions; see `training-sessions.lua`. All start with the prefix, as those above. */
export interface SessionKeys {
  /** Hash: what is known of the sessions of clients. */
  clients: string;
  /** Sorted set by when they were last heard of, in milliseconds: the open ones. */
  beats: string;
  /** Sorted set by when they ended: sessions whose snapshots are not removed yet. */
  leftovers: string;
  /** Sorted set by when they expire, in milliseconds: checkpoints, as JSON of model, kind and name. */
  expiring: string;
  /** Sorted set by when they may be taken, in milliseconds: models that wait for a worker, as `id base`. */
  waiting: string;
  /** Counter: the order of models in lists. */
  sequence: string;
  /** The beginning of the keys of models. */
  models: string;
  /** Sorted set by sequence number: the models of this API key, or those without an owner. */
  modelsOf(owner: Owner): string;
  /** Set: the models of a session. */
  modelsOfSession(session: string): string;
  /** Sorted set by when they were created: the snapshots of a session. */
  snapshotsOf(session: string): string;
  /** Hash: a model. */
  model(id: string): string;
  /** Hash by number: the bytes of the ops of a model that have no result. */
  pending(id: string): string;
  /** String, for a few seconds unless renewed: the token of the worker that has the model. */
  claim(id: string): string;
  /** String: an op. */
  op(id: string, seq: number): string;
  /** String, for an hour: the result of an op, or of what an api process does. */
  result(id: string): string;
  /** Hash by `kind/name`: the checkpoints of a model, as JSON. */
  checkpoints(id: string): string;
  /** Hash: by id, from what a session samples, as JSON. */
  samplersOf(session: string): string;
  /** Channel that receives a notice when a model waits for a worker. */
  modelChannel: string;
  /** Channel that receives the id of a model when it has a new op. */
  opChannel: string;
  /** Channel that receives the id of a result when it is there, or never will be. */
  resultChannel: string;
}

export function sessionKeys(prefix: string): SessionKeys {
  const models = `${prefix}training-model:`;
  return {
    clients: `${prefix}training-clients`,
    beats: `${prefix}training-clients:beats`,
    leftovers: `${prefix}training-clients:leftovers`,
    expiring: `${prefix}training-models:expiring`,
    waiting: `${prefix}training-models:waiting`,
    sequence: `${prefix}training-models:sequence`,
    models,
    modelsOf: (owner) => `${prefix}owner:${owner ?? 'none'}:training-models`,
    modelsOfSession: (session) => `${prefix}training-client:${session}:models`,
    snapshotsOf: (session) => `${prefix}training-client:${session}:snapshots`,
    model: (id) => `${models}${id}`,
    pending: (id) => `${models}${id}:pending`,
    claim: (id) => `${models}${id}:claim`,
    op: (id, seq) => `${models}${id}:op:${seq}`,
    result: (id) => `${prefix}training-result:${id}`,
    checkpoints: (id) => `${models}${id}:checkpoints`,
    samplersOf: (session) => `${prefix}training-client:${session}:samplers`,
    modelChannel: `${prefix}training-models:new`,
    opChannel: `${prefix}training-models:ops`,
    resultChannel: `${prefix}training-results`,
  };
}

/** The dependencies of every part of the store. */
export interface StoreDeps {
  redis: Redis;
  keys: JobKeys;
  /**
   * A clock instead of that of Redis, in milliseconds. All times of the queue are by one clock: those of several hosts differ, and
   * are corrected. @defaultValue that of Redis
   */
  clock?: (() => number) | undefined;
}

/** The time by the clock of the queue, in milliseconds. */
export async function queueTime({ redis, clock }: Pick<StoreDeps, 'redis' | 'clock'>): Promise<number> {
  if (clock !== undefined) return clock();
  const [seconds, microseconds] = await redis.time();
  return Number(seconds) * 1_000 + Math.floor(Number(microseconds) / 1_000);
}
