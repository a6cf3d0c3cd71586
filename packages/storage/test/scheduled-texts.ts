import type { NamedTexts } from '../src/annotations.js';

/** Texts in memory. Each operation waits until the schedule lets it take effect, and its answer until the schedule lets it arrive. */
export function scheduledTexts(turn: () => Promise<void>): NamedTexts {
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
export async function inRandomOrder(
  seed: number,
  work: (turn: () => Promise<void>) => Promise<unknown>,
): Promise<void> {
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
