import { setTimeout as sleep } from 'node:timers/promises';

/** Far more than anything here takes: a busy machine may be ten times slower than an idle one. */
export const PATIENCE_MS = 240_000;

/** Asks until there is an answer other than undefined, null or false. @throws an Error that says what was waited for */
export async function eventually<Answer>(
  what: string,
  ask: () => Promise<Answer | undefined | null | false> | Answer | undefined | null | false,
  { patienceMs = PATIENCE_MS, everyMs = 25 }: { patienceMs?: number; everyMs?: number } = {},
): Promise<Answer> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== null && answer !== false) return answer;
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await sleep(everyMs);
  }
}

/** Makes a check until it passes; its last failure is thrown when the patience is over. */
export async function eventuallyPasses(check: () => Promise<void>, patienceMs = PATIENCE_MS): Promise<void> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await sleep(50);
  }
}
