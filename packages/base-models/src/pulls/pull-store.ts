import { createHash } from 'node:crypto';
import {
  ENDED_PULL_STATUSES,
  ModelPull,
  type ModelPullId,
  type ModelPullRequest,
  ProductError,
} from '@lorasmith/contracts';
import { luaScript, onRedis } from '@lorasmith/queue';
import type { Redis } from 'ioredis';
import { Value } from 'typebox/value';

/** Records beyond this number push out the oldest that have ended. */
const MAX_PULLS = 1_000;
/** Limits, for docs/limits.md. */
export const pullLimits = {
  pulls: { value: MAX_PULLS, unit: 'pulls', beyond: 'the oldest ended one is removed' },
};
/** A puller that has not renewed its lease for this long has died, and another continues its pull. */
export const LEASE_MS = 15_000;

/** The pulls and who works on them, in Redis. Every call throws ProductError `redis_unavailable`. */
export interface PullStore {
  /**
   * Queues a pull. If one of the same name is unfinished, that one is returned: two pulls of a model are one.
   * @throws ProductError `conflict` for an unfinished pull of another repository or revision under the same name;
   *   `service_unavailable` if no puller runs
   */
  create(request: ModelPullRequest): Promise<{ pull: ModelPull; created: boolean }>;
  /** @throws ProductError `model_pull_not_found` */
  get(id: string): Promise<ModelPull>;
  /** Newest first. */
  list(): Promise<ModelPull[]>;
  /** Ends a pull that nobody works on, and asks the puller of any other to stop. @throws ProductError `model_pull_not_found` */
  cancel(id: string): Promise<ModelPull>;

  /** Records that a puller runs, and lists the unfinished pulls. To be repeated every few seconds. */
  announce(): Promise<ModelPullId[]>;
  /** Takes an unfinished pull that nobody works on. Null: somebody does, or it has ended. */
  claim(id: ModelPullId, puller: string): Promise<ModelPull | null>;
  /** Writes the record and renews the lease. `lost`: another puller has it; nothing was written. */
  write(pull: ModelPull, puller: string): Promise<'written' | 'cancel' | 'lost'>;
  /** Lets another puller take it at once. */
  release(id: ModelPullId, puller: string): Promise<void>;
}

/** The time that an {@link PullStore.announce} counts. */
const PRESENCE_MS = 15_000;

const createScript = luaScript(import.meta.url, './pulls.lua', 'create_pull');

const claimScript = luaScript(import.meta.url, './pulls.lua', 'claim_pull');

const writeScript = luaScript(import.meta.url, './pulls.lua', 'write_pull');

const cancelScript = luaScript(import.meta.url, './pulls.lua', 'cancel_pull');

const releaseScript = luaScript(import.meta.url, './pulls.lua', 'release_pull');

/** The id of the pull of a base model of this name. */
export function pullIdOf(name: string): ModelPullId {
  return `pull_${createHash('sha256').update(name).digest('hex').slice(0, 24)}`;
}

export function createPullStore({ redis, prefix }: { redis: Redis; prefix: string }): PullStore {
  const keys = {
    /** Hash by id: the records. */
    pulls: `${prefix}model-pulls`,
    /** Set: the unfinished ones. */
    open: `${prefix}model-pulls:open`,
    /** Set: those that their puller is to stop. */
    cancels: `${prefix}model-pulls:cancels`,
    /** String, for some seconds: a puller runs. */
    presence: `${prefix}model-pulls:presence`,
  };
  const leaseOf = (id: string) => `${prefix}model-pulls:lease:${id}`;

  const get = async (id: string): Promise<ModelPull> => {
    const pull = parsed(await onRedis(() => redis.hget(keys.pulls, id)));
    if (pull !== null) return pull;
    throw new ProductError('model_pull_not_found', `There is no pull ${JSON.stringify(id.slice(0, 100))}.`);
  };

  return {
    async create(request) {
      const wanted = newPull(request);
      const args = { id: wanted.id, record: JSON.stringify(wanted), max_pulls: MAX_PULLS };
      const [outcome, text] = (await onRedis(() => createScript(redis, keys, args))) as [number, string];
      if (outcome === -1) {
        const message =
          'No puller runs, so no base model can be fetched. `npm start` and docker compose start one with the other services.';
        throw new ProductError('service_unavailable', message);
      }
      const pull = parsed(text);
      if (outcome === -2 || pull === null) {
        throw new ProductError('conflict', `There are ${MAX_PULLS} unfinished pulls. Wait for some, or cancel them.`);
      }
      if (pull.repo !== wanted.repo || pull.revision !== wanted.revision) {
        const message = `${pull.repo} (${pull.revision}) is being pulled under the name ${pull.name}. Use another name, or cancel that pull.`;
        throw new ProductError('conflict', message, { param: 'name' });
      }
      return { pull, created: outcome === 1 };
    },
    get,
    async list() {
      const pulls = (await onRedis(() => redis.hvals(keys.pulls))).flatMap((text) => parsed(text) ?? []);
      return pulls.sort((a, b) => b.created_at.localeCompare(a.created_at) || a.name.localeCompare(b.name));
    },
    async cancel(id) {
      const pull = await get(id);
      const cancelled: ModelPull = { ...pull, status: 'cancelled', ended_at: new Date().toISOString() };
      const text = await onRedis(() =>
        cancelScript(redis, { ...keys, lease: leaseOf(id) }, { id, as_cancelled: JSON.stringify(cancelled) }),
      );
      return parsed(text as string | null) ?? pull;
    },

    announce: () =>
      onRedis(async () => {
        await redis.set(keys.presence, '1', 'PX', PRESENCE_MS);
        return await redis.smembers(keys.open);
      }),
    claim: async (id, puller) =>
      parsed(
        (await onRedis(() =>
          claimScript(redis, { ...keys, lease: leaseOf(id) }, { id, puller, lease_ms: LEASE_MS }),
        )) as string | null,
      ),
    async write(pull, puller) {
      const { id, status } = pull;
      const ended = ENDED_PULL_STATUSES.includes(status) ? '1' : '0';
      const args = { id, record: JSON.stringify(pull), puller, lease_ms: LEASE_MS, ended };
      const outcome = await onRedis(() => writeScript(redis, { ...keys, lease: leaseOf(id) }, args));
      return outcome as 'written' | 'cancel' | 'lost';
    },
    async release(id, puller) {
      await onRedis(() => releaseScript(redis, { lease: leaseOf(id) }, { puller }));
    },
  };
}

function newPull({ repo, revision = 'main', name = repo.slice(repo.indexOf('/') + 1) }: ModelPullRequest): ModelPull {
  return {
    id: pullIdOf(name),
    object: 'model_pull',
    name,
    repo,
    revision,
    commit: null,
    status: 'queued',
    files: [],
    total_bytes: 0,
    received_bytes: 0,
    error: null,
    created_at: new Date().toISOString(),
    started_at: null,
    ended_at: null,
  };
}

/** Null for no record, and for one that something else has written. */
function parsed(text: string | null): ModelPull | null {
  if (text === null) return null;
  const pull: unknown = JSON.parse(text);
  return Value.Check(ModelPull, pull) ? pull : null;
}
