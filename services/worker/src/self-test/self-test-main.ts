import { serveParent } from '@lorasmith/child-processes';
import type { SelfTestOrder, SelfTestReply } from './compute-part.js';

// One process of the self-test: computes cases on the engine that its environment names, and says what it computed.

const channel = serveParent<SelfTestOrder, SelfTestReply>({
  onMessage: (order) => void compute(order).then(channel.send),
});

/** An iteration of the event loop, in which what was sent leaves this process. */
const sent = () => new Promise<void>((resolve) => setImmediate(resolve));

async function compute({ kernels: source, avoid, type: _, ...order }: SelfTestOrder): Promise<SelfTestReply> {
  try {
    // Only now: an engine that cannot be loaded is a result.
    const { chooseKernels, computeSelfTest } = await import('@lorasmith/training');
    // All kernels, whatever the setting: the result is remembered.
    const kernels = chooseKernels(source, { avoid, loraPadding: 'both' });
    await computeSelfTest({
      ...order,
      kernels,
      async onStart(name) {
        channel.send({ type: 'started', name });
        await sent();
      },
      async onComputed(computed) {
        channel.send({ type: 'computed', computed });
        await sent();
      },
    });
    return { type: 'finished' };
  } catch (error) {
    console.error(error);
    return { type: 'failed', message: error instanceof Error ? error.message : String(error) };
  }
}
