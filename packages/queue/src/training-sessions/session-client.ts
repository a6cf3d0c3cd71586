import type {
  CheckpointKind,
  Owner,
  QueuedSessionOp,
  QueuedSessionResult,
  Sampler,
  SnapshotId,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { NEW_REQUEST, type SessionKeys, sessionKeys } from '../keys.js';
import { createEventNotices, type EventNotices } from '../redis/event-notices.js';
import { luaScript } from '../redis/lua-script.js';
import { onRedis } from '../redis/redis-errors.js';
import {
  bytesOfOp,
  type CheckpointCopy,
  type ClientRecord,
  type ClientSession,
  hasExpired,
  modelOf,
  ownerOf,
  resultId,
  resultOfBytes,
  type SessionCheckpoint,
  type TrainedModel,
  type TrainedModelRecord,
  type TrainedModelState,
} from './session-records.js';

const scriptOf = (name: string) => luaScript(import.meta.url, './training-sessions.lua', name);
const beginClientScript = scriptOf('begin_client');
const beatScript = scriptOf('beat_client');
const endClientScript = scriptOf('end_client');
const beginModelScript = scriptOf('begin_model');
const submitScript = scriptOf('submit_op');
const lookScript = scriptOf('look_at_model');
const endModelScript = scriptOf('end_model');
const writeCheckpointScript = scriptOf('write_checkpoint');
const forgetCheckpointScript = scriptOf('forget_checkpoint');

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

const MAX_SESSIONS = 1_000;
const MAX_MODELS = 32;
const MAX_OPS = 1_000;
const MAX_OP_BYTES = 256 * 1024 * 1024;
const MAX_SNAPSHOTS = 16;
/** The time without a sign of its client after which a session has ended. */
export const SESSION_SILENCE_MS = 5 * MINUTE_MS;
/** The time for which an op may wait for those before it. */
const OP_LIFETIME_MS = DAY_MS;
/** The time for which a result that nobody fetches is kept, and then one that was fetched. */
export const RESULT_LIFETIME_MS = 60 * MINUTE_MS;
const FETCHED_LIFETIME_MS = 10 * MINUTE_MS;
/** The time for which the record of what has ended is kept; that of a model with checkpoints stays as long as they. */
export const ENDED_LIFETIME_MS = 30 * DAY_MS;
/** The time after which it is looked without a notice. */
const LOOK_MS = 2_000;
/** The time without a sign of the api process that samples, after which it is done anew. */
const RUNNING_MS = 20_000;

/** Limits, for docs/limits.md. */
export const trainingSessionLimits = {
  sessions: { value: MAX_SESSIONS, unit: 'sessions', beyond: '429 `too_many_requests`' },
  models: { value: MAX_MODELS, unit: 'models', beyond: '429 `too_many_requests`' },
  ops: { value: MAX_OPS, unit: 'calls', beyond: '429 `too_many_requests`' },
  opBytes: { value: MAX_OP_BYTES, unit: 'bytes', beyond: '429 `too_many_requests`' },
  snapshots: { value: MAX_SNAPSHOTS, unit: 'snapshots', beyond: 'the oldest is removed' },
  silence: { value: SESSION_SILENCE_MS, unit: 'ms', beyond: 'the session ends' },
};

/** Why a model that was open has ended, without a word of its worker. */
export const WORKER_LOST =
  'The worker that had the model has ended, and what was trained since the last save is lost. Create a training client from the last ' +
  'saved state.';

/** The state of a call: its result, or why there will be none. `waiting`: nothing yet. */
export type CallState =
  | { kind: 'done'; result: QueuedSessionResult }
  | { kind: 'waiting'; state: Exclude<TrainedModelState, 'ended'> }
  | { kind: 'ended'; reason: string }
  | { kind: 'unknown' };

export type SubmittedOp = 'added' | 'exists' | 'full' | 'ended' | 'unknown';

/** The training sessions as the api sees them. Every call throws ProductError `redis_unavailable` if Redis cannot be reached. */
export class TrainingSessionStore {
  readonly #redis: Redis;
  readonly #keys: SessionKeys;
  readonly #results: EventNotices;

  constructor({ redis, prefix }: { redis: Redis; prefix: string }) {
    this.#redis = redis;
    this.#keys = sessionKeys(prefix);
    this.#results = createEventNotices({ redis, channel: this.#keys.resultChannel });
  }

  close(): void {
    this.#results.close();
  }

  /** @returns false if as many sessions are open as may be */
  async beginSession(id: string, owner: Owner, record: ClientRecord): Promise<boolean> {
    const args = { session: id, owner: owner ?? '', record: JSON.stringify(record), max_sessions: MAX_SESSIONS };
    const { waiting, clients, beats } = this.#keys;
    return (await onRedis(() => beginClientScript(this.#redis, { waiting, clients, beats }, args))) === 'created';
  }

  async session(id: string): Promise<ClientSession | null> {
    const { clients } = this.#keys;
    const fields = await onRedis(() => this.#redis.hmget(clients, id, `${id}:owner`, `${id}:ended`));
    const [record, owner, ended] = fields;
    if (record == null) return null;
    return { id, owner: ownerOf(owner ?? ''), record: JSON.parse(record) as ClientRecord, ended: ended ?? null };
  }

  /** The ids of the sessions that are open, the one that was heard of last first. */
  async openSessions(): Promise<string[]> {
    return await onRedis(() => this.#redis.zrevrange(this.#keys.beats, 0, -1));
  }

  /** Notes that the client still is. @returns false if the session has ended */
  async beat(session: string): Promise<boolean> {
    const { waiting, beats } = this.#keys;
    return (await onRedis(() => beatScript(this.#redis, { waiting, beats }, { session }))) === 'ok';
  }

  /** Ends a session with its models. */
  async endSession(session: string, reason: string): Promise<void> {
    await onRedis(() => endSession(this.#redis, this.#keys, { session, reason, silentMs: 0 }));
  }

  /** Adds a model that waits for a worker. */
  async beginModel(
    id: string,
    { session, owner, record }: { session: string; owner: Owner; record: TrainedModelRecord },
  ): Promise<'created' | 'exists' | 'full' | 'gone'> {
    const keys = this.#keys;
    const own = {
      ...{ waiting: keys.waiting, beats: keys.beats, models: keys.models, sequence_counter: keys.sequence },
      ...{ model: keys.model(id), of_owner: keys.modelsOf(owner), of_session: keys.modelsOfSession(session) },
    };
    const args = {
      ...{ id, session, owner: owner ?? '', base: record.spec.base_model, record: JSON.stringify(record) },
      ...{ max_models: MAX_MODELS, channel: keys.modelChannel, notice: NEW_REQUEST },
    };
    return (await onRedis(() => beginModelScript(this.#redis, own, args))) as 'created' | 'exists' | 'full' | 'gone';
  }

  async model(id: string): Promise<TrainedModel | null> {
    return modelOf(id, await onRedis(() => this.#redis.hgetall(this.#keys.model(id))));
  }

  /** The ids of the models of this key that are still known, newest first. */
  async modelsOf(owner: Owner): Promise<string[]> {
    return await onRedis(() => this.#redis.zrevrange(this.#keys.modelsOf(owner), 0, -1));
  }

  async modelsOfSession(session: string): Promise<string[]> {
    return await onRedis(() => this.#redis.smembers(this.#keys.modelsOfSession(session)));
  }

  async endModel(id: string, reason: string): Promise<void> {
    const own = { waiting: this.#keys.waiting, model: this.#keys.model(id) };
    await onRedis(() => endModelScript(this.#redis, own, { id, reason, keep_ms: ENDED_LIFETIME_MS }));
  }

  /** Adds an op with its number, which is executed after all with lower numbers. One that was added before is not added again. */
  async submit(model: string, seq: number, op: QueuedSessionOp): Promise<SubmittedOp> {
    const keys = this.#keys;
    const body = bytesOfOp(op);
    const own = {
      ...{ waiting: keys.waiting, model: keys.model(model), pending: keys.pending(model) },
      ...{ op: keys.op(model, seq), result: keys.result(resultId(model, seq)) },
    };
    const args = {
      ...{ id: model, seq, bytes: body.length, body, max_ops: MAX_OPS, max_bytes: MAX_OP_BYTES },
      ...{ lifetime_ms: OP_LIFETIME_MS, worker_channel: keys.modelChannel, notice: NEW_REQUEST },
      op_channel: keys.opChannel,
    };
    return (await onRedis(() => submitScript(this.#redis, own, args))) as SubmittedOp;
  }

  /** Tells what became of an op, after at most this time. */
  async call(model: string, seq: number, waitMs: number, signal: AbortSignal): Promise<CallState> {
    const own = { waiting: this.#keys.waiting, model: this.#keys.model(model) };
    const args = { id: model, lost_reason: WORKER_LOST, keep_ms: ENDED_LIFETIME_MS };
    const look = async () => {
      const [state, reason] = (await onRedis(() => lookScript(this.#redis, own, args))) as [string, string];
      return { state: state as TrainedModelState | 'unknown', reason };
    };
    return await this.#await(resultId(model, seq), waitMs, signal, async () => {
      const { state, reason } = await look();
      if (state === 'unknown') return { kind: 'unknown' };
      return state === 'ended' ? { kind: 'ended', reason } : { kind: 'waiting', state };
    });
  }

  /** Begins what this process does for a call. @returns false if it was begun before, or is done */
  async beginOwn(id: string): Promise<boolean> {
    return (await onRedis(() => this.#redis.set(this.#keys.result(id), '', 'PX', RUNNING_MS, 'NX'))) !== null;
  }

  /** Notes that this process still works on it. */
  async renewOwn(id: string): Promise<void> {
    await onRedis(() => this.#redis.pexpire(this.#keys.result(id), RUNNING_MS));
  }

  /** Writes the result of what this process has done. */
  async endOwn(id: string, result: Buffer): Promise<void> {
    const { result: resultKey, resultChannel } = this.#keys;
    const written = this.#redis.multi().set(resultKey(id), result, 'PX', RESULT_LIFETIME_MS).publish(resultChannel, id);
    await onRedis(() => written.exec());
  }

  /** Forgets what this process began, so that the client sends the call again. */
  async dropOwn(id: string): Promise<void> {
    await onRedis(() => this.#redis.del(this.#keys.result(id)));
  }

  /** The result of what an api process does, after at most this time; `unknown` if none does it. */
  async ownResult(
    id: string,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<{ kind: 'done'; bytes: Buffer } | { kind: 'running' } | { kind: 'unknown' }> {
    const bytes = await this.#bytesOf(id, waitMs, signal, async (found) => found !== null);
    if (bytes === null) return { kind: 'unknown' };
    return bytes.length === 0 ? { kind: 'running' } : { kind: 'done', bytes };
  }

  /** The checkpoints of a model that have not expired. */
  async checkpoints(model: string): Promise<SessionCheckpoint[]> {
    const values = await onRedis(() => this.#redis.hvals(this.#keys.checkpoints(model)));
    const all = values.map((value) => JSON.parse(value) as SessionCheckpoint);
    return all.filter((checkpoint) => !hasExpired(checkpoint));
  }

  /** A checkpoint, which may have expired. */
  async checkpoint(model: string, { kind, name }: Pick<SessionCheckpoint, 'kind' | 'name'>) {
    const value = await onRedis(() => this.#redis.hget(this.#keys.checkpoints(model), `${kind}/${name}`));
    return value === null ? null : (JSON.parse(value) as SessionCheckpoint);
  }

  /** Changes a checkpoint. @returns false if it is not as it was any more */
  async changeCheckpoint(
    model: string,
    checkpoint: SessionCheckpoint,
    change: Partial<Pick<SessionCheckpoint, 'expires_at' | 'public'>>,
  ): Promise<boolean> {
    const changed = { ...checkpoint, ...change };
    return await onRedis(() => writeCheckpoint(this.#redis, this.#keys, model, changed, checkpoint));
  }

  /** Adds a checkpoint that no worker has saved, with a model of its own that has ended. Done again, it is the same. */
  async addCopy(id: string, { owner, session, record, checkpoint, reason }: CheckpointCopy): Promise<void> {
    const keys = this.#keys;
    await onRedis(async () => {
      if ((await this.#redis.exists(keys.model(id))) === 0) {
        const now = Date.now();
        const fields = {
          ...{ owner: owner ?? '', session, base: record.spec.base_model, record: JSON.stringify(record), reason },
          ...{ state: 'ended', done: 0, kept: 0, parked: '', created: now, used: now },
        };
        const order = await this.#redis.incr(keys.sequence);
        await this.#redis.multi().hset(keys.model(id), fields).zadd(keys.modelsOf(owner), order, id).exec();
      }
      await writeCheckpoint(this.#redis, keys, id, checkpoint);
    });
  }

  /** Checkpoints that have expired, with the ids of their models. */
  async expired(limit: number): Promise<{ model: string; kind: CheckpointKind; name: string }[]> {
    const now = Date.now();
    const members = await onRedis(() => this.#redis.zrangebyscore(this.#keys.expiring, '-inf', now, 'LIMIT', 0, limit));
    return members.map((member) => JSON.parse(member) as { model: string; kind: CheckpointKind; name: string });
  }

  async forgetCheckpoint(model: string, checkpoint: Pick<SessionCheckpoint, 'kind' | 'name'>): Promise<void> {
    const args = { ...fieldOf(model, checkpoint), keep_ms: ENDED_LIFETIME_MS };
    await onRedis(() => forgetCheckpointScript(this.#redis, checkpointKeys(this.#keys, model), args));
  }

  async writeSampler(sampler: Sampler): Promise<void> {
    await onRedis(() => writeSampler(this.#redis, this.#keys, sampler));
  }

  /** The samplers of a session. */
  async samplersOf(session: string): Promise<string[]> {
    return await onRedis(() => this.#redis.hkeys(this.#keys.samplersOf(session)));
  }

  async sampler(session: string, id: string): Promise<Sampler | null> {
    const value = await onRedis(() => this.#redis.hget(this.#keys.samplersOf(session), id));
    return value === null ? null : (JSON.parse(value) as Sampler);
  }

  /**
   * Counts a snapshot, before it is made. It is removed when its session ends.
   * @returns the snapshots that are to be removed, since newer ones are there
   */
  async addSnapshot(session: string, snapshot: SnapshotId): Promise<SnapshotId[]> {
    const key = this.#keys.snapshotsOf(session);
    return await onRedis(async () => {
      await this.#redis.zadd(key, 'NX', Date.now(), snapshot);
      return (await this.#redis.zrange(key, 0, String(-MAX_SNAPSHOTS - 1))) as SnapshotId[];
    });
  }

  async forgetSnapshot(session: string, snapshot: SnapshotId): Promise<void> {
    await onRedis(() => this.#redis.zrem(this.#keys.snapshotsOf(session), snapshot));
  }

  /** Waits for a result, while `otherwise` says that it is waited for. */
  async #await(
    id: string,
    waitMs: number,
    signal: AbortSignal,
    otherwise: () => Promise<Exclude<CallState, { kind: 'done' }>>,
  ): Promise<CallState> {
    let state: Exclude<CallState, { kind: 'done' }> = { kind: 'unknown' };
    const bytes = await this.#bytesOf(id, waitMs, signal, async () => {
      state = await otherwise();
      return state.kind === 'waiting';
    });
    return bytes === null ? state : { kind: 'done', result: resultOfBytes(bytes) };
  }

  /** The bytes of a result; null, or no bytes, where it is not waited for any more. */
  async #bytesOf(
    id: string,
    waitMs: number,
    signal: AbortSignal,
    isAwaited: (found: Buffer | null) => Promise<boolean>,
  ): Promise<Buffer | null> {
    const key = this.#keys.result(id);
    const deadline = performance.now() + waitMs;
    for (;;) {
      // Before the look, so that no result in between is missed.
      const notice = this.#results.listen(id);
      try {
        await notice.ready;
        const found = await onRedis(() => this.#redis.getBuffer(key));
        if (found !== null && found.length > 0) {
          await onRedis(() => this.#redis.pexpire(key, FETCHED_LIFETIME_MS));
          return found;
        }
        const leftMs = deadline - performance.now();
        // It may have come just before what it belongs to has ended.
        if (!(await isAwaited(found))) return await onRedis(() => this.#redis.getBuffer(key));
        if (leftMs <= 0 || signal.aborted) return found;
        await notice.wait(Math.min(LOOK_MS, leftMs), signal);
      } finally {
        notice.close();
      }
    }
  }
}

/** Ends a session with its models, if it was silent for so long. @returns false if it goes on, or has ended before */
export async function endSession(
  redis: Redis,
  keys: SessionKeys,
  { session, reason, silentMs }: { session: string; reason: string; silentMs: number },
): Promise<boolean> {
  const ids = await redis.smembers(keys.modelsOfSession(session));
  const { waiting, clients, beats, leftovers } = keys;
  const args = { session, reason, silent_ms: silentMs, keep_ms: ENDED_LIFETIME_MS };
  const models = ids.map((id) => keys.model(id));
  return (await endClientScript(redis, { waiting, clients, beats, leftovers }, args, ids, models)) === 1;
}

/**
 * Writes a checkpoint of a model. The one before of that name, with another adapter, expires now.
 * @param expected - Null: whatever is there.
 * @returns false if something else than `expected` is there
 */
export async function writeCheckpoint(
  redis: Redis,
  keys: SessionKeys,
  model: string,
  checkpoint: SessionCheckpoint,
  expected: SessionCheckpoint | null = null,
): Promise<boolean> {
  const { name, adapter, expires_at: expiresAt } = checkpoint;
  const args = {
    ...fieldOf(model, checkpoint),
    value: JSON.stringify(checkpoint),
    expires_ms: expiresAt === null ? '' : Date.parse(expiresAt),
    expected: expected === null ? '' : JSON.stringify(expected),
  };
  const before = (await writeCheckpointScript(redis, checkpointKeys(keys, model), args)) as string;
  if (before === 'changed') return false;
  const old = before === '' ? null : (JSON.parse(before) as SessionCheckpoint);
  if (old === null || old.adapter === adapter) return true;
  const expired = { ...old, name: `${name}~${old.adapter}`, public: false, expires_at: new Date().toISOString() };
  return await writeCheckpoint(redis, keys, model, expired);
}

function checkpointKeys({ waiting, model, checkpoints, expiring }: SessionKeys, id: string) {
  return { waiting, model: model(id), checkpoints: checkpoints(id), expiring };
}

function fieldOf(model: string, { kind, name }: Pick<SessionCheckpoint, 'kind' | 'name'>) {
  return { field: `${kind}/${name}`, member: JSON.stringify({ model, kind, name }) };
}

export async function writeSampler(redis: Redis, keys: SessionKeys, sampler: Sampler): Promise<void> {
  await redis.hset(keys.samplersOf(sampler.session), sampler.id, JSON.stringify(sampler));
}
