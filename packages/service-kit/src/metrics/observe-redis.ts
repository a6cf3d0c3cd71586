import type { Redis } from 'ioredis';
import { Gauge, oncePerScrape, type Registry } from './create-metrics.js';

/** Reports whether Redis answers this process and how full it is. */
export function observeRedis(metrics: Registry, redis: Pick<Redis, 'status' | 'info'>): void {
  const readMemory = oncePerScrape(() => memoryInfo(redis));
  new Gauge({
    name: 'lorasmith_redis_up',
    help: '1 while Redis answers this process, else 0.',
    registers: [metrics],
    async collect() {
      this.set((await readMemory()) === null ? 0 : 1);
    },
  });
  new Gauge({
    name: 'lorasmith_redis_memory_bytes',
    help: 'Memory that Redis uses, and its limit (0: none).',
    labelNames: ['state'],
    registers: [metrics],
    async collect() {
      const text = await readMemory();
      this.reset();
      if (text === null) return;
      this.set({ state: 'used' }, infoNumber(text, 'used_memory'));
      this.set({ state: 'max' }, infoNumber(text, 'maxmemory'));
    },
  });
}

async function memoryInfo(redis: Pick<Redis, 'status' | 'info'>): Promise<string | null> {
  // In a worker, a command would wait until Redis is back, and each scrape would add another.
  if (redis.status !== 'ready') return null;
  try {
    return await redis.info('memory');
  } catch {
    return null;
  }
}

/** The value of a line `name:value`; 0 when it is missing. */
function infoNumber(text: string, name: string): number {
  return Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(text)?.[1] ?? 0);
}
