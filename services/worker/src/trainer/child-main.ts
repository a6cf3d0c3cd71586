import { serveTrainer } from './serve-trainer.js';
import { isStartedForGpu } from './trainer-program.js';

let engine: typeof import('./execute-order.js') | null = null;
const loadEngine = async () => {
  try {
    engine ??= await import('./execute-order.js');
    return engine;
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
};
// A trainer waits for its first order with the engine loaded, but opens no card that it does not need yet.
if (!isStartedForGpu()) await loadEngine();

serveTrainer(async (order, options) => await (await loadEngine()).executeOrder(order, options), {
  generate: async (order, options) => await (await loadEngine()).generate(order, options),
  openSession: async (order, options) => await (await loadEngine()).openSession(order, options),
  isSpent: () => engine?.isSpent() ?? false,
});
