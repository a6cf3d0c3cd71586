import { Alarm } from '@lorasmith/concurrency';
import { Cluster, type ClusterOptions, type Redis } from 'ioredis';

/** Notices that something, such as a job, has a new event. */
export interface Notice {
  /** Resolves once subscribed, or once subscribing failed. No later notice is missed while the connection lasts. */
  ready: Promise<void>;
  /** Resolves at the first notice since `listen` or the last wait, on timeout, or when the signal aborts. Never rejects. */
  wait(timeoutMs: number, signal?: AbortSignal): Promise<void>;
  close(): void;
}

export interface EventNotices {
  listen(id: string): Notice;
  close(): void;
}

/**
 * One subscription serves every listener of the process. Its connection is opened for the first listener. A notice only
 * says that it is time to read: readers also read after their timeout, so a lost notice delays an event and loses none.
 */
export function createEventNotices({ redis, channel }: { redis: Redis; channel: string }): EventNotices {
  const listeners = new Map<string, Set<() => void>>();
  let subscriber: Redis | undefined;
  let subscribed: Promise<void> | undefined;
  let closed = false;

  const subscribe = () => {
    subscriber = copyOf(redis);
    // The original connection reports the same errors.
    subscriber.on('error', () => {});
    subscriber.on('message', (_channel, id: string) => {
      for (const wake of listeners.get(id) ?? []) wake();
    });
    const current = subscriber;
    return current.subscribe(channel).then(
      () => {},
      () => {
        current.disconnect();
        subscribed = undefined;
      },
    );
  };

  return {
    listen(id) {
      // After `close` no connection is opened, and listeners wait until their timeout.
      subscribed ??= closed ? Promise.resolve() : subscribe();
      const alarm = new Alarm();
      const wake = () => alarm.ring();
      const wakers = listeners.get(id) ?? new Set();
      listeners.set(id, wakers.add(wake));
      return {
        ready: subscribed,
        wait: (timeoutMs, signal) => alarm.wait(timeoutMs, signal),
        close() {
          wakers.delete(wake);
          if (wakers.size === 0 && listeners.get(id) === wakers) listeners.delete(id);
        },
      };
    },
    close() {
      closed = true;
      subscriber?.disconnect();
      for (const wakers of listeners.values()) for (const wake of wakers) wake();
    },
  };
}

/** A connection with the same settings that connects on first use. */
function copyOf(redis: Redis): Redis {
  const connection: unknown = redis;
  const options = { enableOfflineQueue: true, lazyConnect: true };
  if (!(connection instanceof Cluster)) return redis.duplicate({ ...options, maxRetriesPerRequest: 1 });
  const redisOptions: ClusterOptions['redisOptions'] = { ...connection.options.redisOptions, maxRetriesPerRequest: 1 };
  const overrides: ClusterOptions = { ...options, redisOptions };
  return connection.duplicate(undefined, overrides as never) as unknown as Redis;
}
