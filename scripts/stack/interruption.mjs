/**
 * Ctrl-C under npm arrives twice: from the terminal, and passed on by npm. What comes this soon is the same wish.
 */
const SAME_WISH_MS = 1_000;

const SIGNALS = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);

/**
 * Aborted by the first signal that asks this process to stop. A later one, from somebody who will not wait, ends it at
 * once; the parts of a stack notice that.
 *
 * @returns {AbortSignal}
 */
export function interruption() {
  const controller = new AbortController();
  onInterruption((_signal, times) => {
    if (times > 1) process.exit(130);
    controller.abort(new Error('interrupted'));
  });
  return controller.signal;
}

/**
 * @param {(signal: NodeJS.Signals, times: number) => void} handler called each time this process is asked to stop
 */
export function onInterruption(handler) {
  let times = 0;
  let lastAt = Number.NEGATIVE_INFINITY;
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      const now = performance.now();
      if (now - lastAt < SAME_WISH_MS) return;
      lastAt = now;
      times += 1;
      handler(signal, times);
    });
  }
}
