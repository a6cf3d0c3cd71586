import { expect, test } from 'vitest';
import { type NamedTexts, openAnnotations } from './annotations.js';

/** Texts in memory. Each operation waits until the schedule lets it take effect, and its answer until the schedule lets it arrive. */
function scheduledTexts(turn: () => Promise<void>): NamedTexts {
  const texts = new Map<string, string>();
  const operation = async <Answer>(effect: () => Answer): Promise<Answer> => {
    await turn();
    const answer = effect();
    await turn();
    return answer;
  };
  return {
    create: (name, text) => operation(() => !texts.has(name) && texts.set(name, text).has(name)),
    read: (name) => operation(() => texts.get(name) ?? null),
    remove: (name) => operation(() => void texts.delete(name)),
    list: (prefix) => operation(() => [...texts.keys()].filter((name) => name.startsWith(prefix)).sort()),
  };
}

/** Lets those that wait go on one at a time, in a random order, until the work has ended. */
async function inRandomOrder(seed: number, work: (turn: () => Promise<void>) => Promise<unknown>): Promise<void> {
  const waiting: (() => void)[] = [];
  let state = seed;
  let ended = false;
  const working = work(() => new Promise((resolve) => waiting.push(resolve))).finally(() => {
    ended = true;
  });
  while (!ended) {
    await new Promise(setImmediate);
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    if (waiting.length > 0) waiting.splice((state >>> 8) % waiting.length, 1)[0]!();
  }
  await working;
}

test('each of several changes at the same time counts once, in whatever order the operations of processes happen', async () => {
  const of = { id: 'ds_1', created_at: '2026-01-01T00:00:00Z' };
  for (let seed = 0; seed < 300; seed++) {
    await inRandomOrder(seed, async (turn) => {
      const texts = scheduledTexts(turn);
      const changes = ['a', 'b', 'c', 'd'].map((letter) =>
        openAnnotations(texts).change(of, (value) => [...((value as string[] | null) ?? []), letter]),
      );
      await Promise.all(changes);
      const letters = (await openAnnotations(texts).get(of)) as string[];
      expect([...letters].sort(), `seed ${seed}`).toEqual(['a', 'b', 'c', 'd']);
      expect(await texts.list(''), `seed ${seed}`).toHaveLength(1);
    });
  }
});
