import { randomUUID } from 'node:crypto';
import type {
  ModelName,
  QueuedSessionOp,
  QueuedSessionResult,
  Sampler,
  SessionModelDescription,
  SnapshotId,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { jobKeys, NEW_REQUEST, type SessionKeys, sessionKeys } from '../keys.js';
import { createEventNotices, type EventNotices, type Notice } from '../redis/event-notices.js';
import { luaScript } from '../redis/lua-script.js';
import {
  ENDED_LIFETIME_MS,
  endSession,
  RESULT_LIFETIME_MS,
  SESSION_SILENCE_MS,
  writeCheckpoint,
  writeSampler,
} from './session-client.js';
import {
  bytesOfResult,
  modelOf,
  opOfBytes,
  resultId,
  type SessionCheckpoint,
  type TrainedModel,
} from './session-records.js';

const scriptOf = (name: string) => luaScript(import.meta.url, './training-sessions.lua', name);
const takeScript = scriptOf('take_waiting');
const claimScript = scriptOf('claim_model');
const renewScript = scriptOf('renew_model');
const endOpScript = scriptOf('end_op');
const giveBackScript = scriptOf('give_back_model');
const failScript = scriptOf('fail_model');

/** The time without a sign of its worker after which a model is taken from it. */
const CLAIM_MS = 30_000;
const SILENT_REASON = 'Nothing was heard of the client for five minutes.';

/** The training sessions as a worker sees them. While Redis is unavailable, every call waits. */
export class TrainingSessionServer {
  readonly #redis: Redis;
  readonly #keys: SessionKeys;
  readonly #keyWeights: string;
  readonly #workerName: string;
  readonly #models: EventNotices;
  readonly #ops: EventNotices;

  /** @param options.redis - Must wait for Redis as long as it takes (`maxRetriesPerRequest: null`). */
  constructor({ redis, prefix, workerName }: { redis: Redis; prefix: string; workerName: string }) {
    this.#redis = redis;
    this.#keys = sessionKeys(prefix);
    this.#keyWeights = jobKeys(prefix).keyWeights;
    this.#workerName = workerName;
    this.#models = createEventNotices({ redis, channel: this.#keys.modelChannel });
    this.#ops = createEventNotices({ redis, channel: this.#keys.opChannel });
  }

  /** Takes the model that has waited longest, of this base or of any (null). From then on no other worker has it. */
  async claim(baseModel: ModelName | null): Promise<ClaimedModel | null> {
    const { waiting } = this.#keys;
    for (;;) {
      const id = await takeScript(this.#redis, { waiting }, { base: baseModel ?? '' });
      if (typeof id !== 'string') return null;
      const token = randomUUID();
      const own = { waiting, model: this.#keys.model(id), claim: this.#keys.claim(id) };
      const args = { token, worker: this.#workerName, claim_ms: CLAIM_MS };
      const flat = (await claimScript(this.#redis, own, args)) as string[];
      const fields = Object.fromEntries(
        Array.from({ length: flat.length / 2 }, (_, at) => [flat[2 * at]!, flat[2 * at + 1]!]),
      );
      const model = modelOf(id, fields);
      if (model !== null) {
        const weight = Number((await this.#redis.hget(this.#keyWeights, model.owner ?? '')) ?? 1);
        return new ClaimedModel(model, { redis: this.#redis, keys: this.#keys, token, ops: this.#ops, weight });
      }
    }
  }

  /** True if a model of another base than this one has waited for a worker for that long. */
  async isOtherWaiting(baseModel: ModelName, waitedMs: number): Promise<boolean> {
    const [seconds] = await this.#redis.time();
    const until = Number(seconds) * 1_000 - waitedMs;
    const members = await this.#redis.zrangebyscore(this.#keys.waiting, '-inf', until);
    return members.some((member) => baseOf(member) !== baseModel);
  }

  /** Notices models that wait, from now on. Ask for it before a claim, so that none in between is missed. */
  listen(): Notice {
    return this.#models.listen(NEW_REQUEST);
  }

  /** Ends the sessions of which nothing was heard for too long. */
  async endSilent(): Promise<void> {
    for (const session of await this.#redis.zrange(this.#keys.beats, 0, '-1')) {
      await endSession(this.#redis, this.#keys, { session, reason: SILENT_REASON, silentMs: SESSION_SILENCE_MS });
    }
  }

  /** Removes the snapshots of sessions that have ended. @param remove - May find it removed already. */
  async clean(remove: (snapshot: SnapshotId) => Promise<void>): Promise<void> {
    const { clients, leftovers, snapshotsOf, samplersOf, modelsOfSession, model: modelKey } = this.#keys;
    for (const session of await this.#redis.zrange(leftovers, 0, '-1')) {
      const models = await this.#redis.smembers(modelsOfSession(session));
      // One that a worker still has may write a snapshot.
      const claims = await Promise.all(models.map((id) => this.#redis.exists(this.#keys.claim(id))));
      if (claims.some((count) => count > 0)) continue;
      const parked = await Promise.all(models.map((id) => this.#redis.hget(modelKey(id), 'parked')));
      const own = await this.#redis.zrange(snapshotsOf(session), 0, '-1');
      for (const snapshot of [...own, ...parked])
        if (snapshot !== null && snapshot !== '') await remove(snapshot as SnapshotId);
      await this.#redis.del(snapshotsOf(session), samplersOf(session), modelsOfSession(session));
      await this.#redis.hdel(clients, session, `${session}:owner`, `${session}:ended`);
      await this.#redis.zrem(leftovers, session);
    }
  }

  /** True if a snapshot is still to be sampled from, or its model to be continued from it. */
  async isSnapshotKnown(snapshot: SnapshotId, model: string): Promise<boolean> {
    const [session, parked] = await this.#redis.hmget(this.#keys.model(model), 'session', 'parked');
    if (session == null) return false;
    return parked === snapshot || (await this.#redis.zscore(this.#keys.snapshotsOf(session), snapshot)) !== null;
  }

  close(): void {
    this.#models.close();
    this.#ops.close();
  }
}

/** @param member of the set `waiting` */
const baseOf = (member: string) => member.slice(member.indexOf(' ') + 1);

/** A model that this worker has. `lost`: another worker may have it, so nothing is to be said of it any more. */
export class ClaimedModel {
  readonly model: TrainedModel;
  /** The weight of its key beside others. */
  readonly keyWeight: number;
  readonly #redis: Redis;
  readonly #keys: SessionKeys;
  readonly #token: string;
  readonly #ops: EventNotices;

  constructor(
    model: TrainedModel,
    {
      redis,
      keys,
      token,
      ops,
      weight,
    }: { redis: Redis; keys: SessionKeys; token: string; ops: EventNotices; weight: number },
  ) {
    this.model = model;
    this.keyWeight = weight;
    this.#redis = redis;
    this.#keys = keys;
    this.#token = token;
    this.#ops = ops;
  }

  get #own() {
    const { id } = this.model;
    return { waiting: this.#keys.waiting, model: this.#keys.model(id), claim: this.#keys.claim(id) };
  }

  /** Notices ops of the model, from now on. */
  listen(): Notice {
    return this.#ops.listen(this.model.id);
  }

  /** The op with this number; null: it has not come. */
  async op(seq: number): Promise<QueuedSessionOp | null> {
    const bytes = await this.#redis.getBuffer(this.#keys.op(this.model.id, seq));
    return bytes === null ? null : opOfBytes(bytes);
  }

  /** Tells others that this worker still has the model. To be called every few seconds. `ended`: it is to be closed. */
  async renew(): Promise<'ok' | 'ended' | 'lost'> {
    const args = { token: this.#token, claim_ms: CLAIM_MS };
    return (await renewScript(this.#redis, this.#own, args)) as 'ok' | 'ended' | 'lost';
  }

  /** Writes the result of the op after the last one that has a result. */
  async end(
    seq: number,
    result: QueuedSessionResult,
    described: SessionModelDescription | null = null,
  ): Promise<'done' | 'lost'> {
    const { id } = this.model;
    const { pending, op, result: resultKey, resultChannel: channel } = this.#keys;
    const own = { ...this.#own, pending: pending(id), op: op(id, seq), result: resultKey(resultId(id, seq)) };
    const args = {
      ...{ id, seq, token: this.#token, body: bytesOfResult(result), lifetime_ms: RESULT_LIFETIME_MS, channel },
      described: described === null ? '' : JSON.stringify(described),
    };
    return (await endOpScript(this.#redis, own, args)) as 'done' | 'lost';
  }

  /**
   * Gives the model back, to be continued from a snapshot of now, or (null) from where it was before this claim.
   * @returns a snapshot that nobody needs any more: this one where it has ended meanwhile, or the one before; null for none
   */
  async giveBack(snapshot: SnapshotId | null, delayMs = 0): Promise<SnapshotId | null> {
    const args = {
      ...{ id: this.model.id, token: this.#token, snapshot: snapshot ?? '', delay_ms: delayMs },
      ...{ worker_channel: this.#keys.modelChannel, notice: NEW_REQUEST },
    };
    const answer = String(await giveBackScript(this.#redis, this.#own, args));
    if (answer === 'lost' || answer === 'ended') return snapshot;
    return answer === '' ? null : (answer as SnapshotId);
  }

  /** Ends the model, which cannot be continued, with a reason. */
  async fail(reason: string): Promise<void> {
    const { resultChannel: channel } = this.#keys;
    const args = { id: this.model.id, token: this.#token, reason, keep_ms: ENDED_LIFETIME_MS, channel };
    await failScript(this.#redis, this.#own, args);
  }

  /** Lets others know that nobody has the model any more, after its end. */
  async leave(): Promise<void> {
    await this.#redis.del(this.#keys.claim(this.model.id));
  }

  async writeSampler(sampler: Sampler): Promise<void> {
    await writeSampler(this.#redis, this.#keys, sampler);
  }

  async writeCheckpoint(checkpoint: SessionCheckpoint): Promise<void> {
    await writeCheckpoint(this.#redis, this.#keys, this.model.id, checkpoint);
  }
}
