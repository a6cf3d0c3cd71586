import { setTimeout as sleep } from 'node:timers/promises';

/** Far more than any step takes: a busy machine may be ten times slower than an idle one. */
export const PATIENCE_MS = 240_000;

/** Polls until the answer is not undefined, null or false. @throws an Error that names what did not happen */
export async function eventually<Answer>(
  what: string,
  ask: () => Promise<Answer | undefined | null | false> | Answer | undefined | null | false,
  { patienceMs = PATIENCE_MS, everyMs = 25 }: { patienceMs?: number; everyMs?: number } = {},
): Promise<Answer> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== null && answer !== false) return answer;
    if (performance.now() > deadline) throw new Error(`this did not happen in time: ${what}`);
    await sleep(everyMs);
  }
}

/** Repeats a check until it passes, or throws its last failure when time is up. */
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
