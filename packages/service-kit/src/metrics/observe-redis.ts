import type { Redis } from 'ioredis';
import { Gauge, type Registry } from './create-metrics.js';
import { sharedLook } from './shared-look.js';

/** Tells whether Redis answers this process and how full it is. */
export function observeRedis(metrics: Registry, redis: Pick<Redis, 'status' | 'info'>): void {
  const look = sharedLook(() => memoryInfo(redis));
  new Gauge({
    name: 'lorasmith_redis_up',
    help: '1 while Redis answers this process, else 0.',
    registers: [metrics],
    async collect() {
      this.set((await look()) === null ? 0 : 1);
    },
  });
  new Gauge({
    name: 'lorasmith_redis_memory_bytes',
    help: 'Memory that Redis uses, and the most that it may use (0: no limit is set).',
    labelNames: ['state'],
    registers: [metrics],
    async collect() {
      const text = await look();
      this.reset();
      if (text === null) return;
      this.set({ state: 'used' }, infoNumber(text, 'used_memory'));
      this.set({ state: 'max' }, infoNumber(text, 'maxmemory'));
    },
  });
}

async function memoryInfo(redis: Pick<Redis, 'status' | 'info'>): Promise<string | null> {
  // A command would wait in the client of a worker until Redis is back, and each scrape would leave one more there.
  if (redis.status !== 'ready') return null;
  try {
    return await redis.info('memory');
  } catch {
    return null;
  }
}

/** The value of a line `name:value`; 0 where there is none. */
function infoNumber(text: string, name: string): number {
  return Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(text)?.[1] ?? 0);
}
