import { binding } from '../../packages/tensor/src/binding.js';
import { type CudaStatistics, engine } from '../../packages/tensor/src/index.js';

/** TensorFlow's kernels for any device, which do not touch what tensors hold. */
const OF_ANY_DEVICE = ['Identity', 'Reshape'];
/** Makes a tensor of weights that were read, in the host's memory; the next op has it copied to the device. */
const OF_THE_HOST = ['LorasmithAdopt'];

/** The addon of the CUDA engine, whose tests these are. */
export function cuda(): NonNullable<typeof engine.cuda> {
  if (engine.cuda === null) throw new Error(`run with test/emulated/vitest.config.ts; the engine is ${engine.kind}`);
  return engine.cuda;
}

export interface Watched<Result> {
  result: Result;
  /** Ops that did not run on the device: without a kernel for it, or that read an input back from it. */
  offDevice: string[];
  /** Ops in all. */
  ops: number;
  /** Copies, launches, waits and failures of all that `work` did. */
  statistics: Omit<CudaStatistics, 'kernels'>;
}

/**
 * Notes which ops of `work` run on the CPU. TensorFlow puts an op without a kernel for the device there silently, and copies
 * its inputs from the device.
 */
export async function watchDevice<Result>(work: () => Promise<Result> | Result): Promise<Watched<Result>> {
  const onDevice = new Set([...cuda().ops(), ...OF_ANY_DEVICE, ...OF_THE_HOST]);
  const offDevice = new Set<string>();
  let ops = 0;
  const { executeOp } = binding;
  const watched: typeof executeOp = (name, ...rest) => {
    ops++;
    if (!onDevice.has(name)) offDevice.add(`${name}: no kernel`);
    const { downloads } = cuda().statistics();
    const outputs = executeOp.call(binding, name, ...rest);
    const further = cuda().statistics().downloads - downloads;
    if (further > 0) offDevice.add(`${name}: ${further} downloads, attributes ${JSON.stringify(rest[0])}`);
    return outputs;
  };
  binding.executeOp = watched;
  const before = cuda().statistics();
  try {
    const result = await work();
    const after = cuda().statistics();
    const { kernels: _, ...counts } = after;
    const names = Object.keys(counts) as (keyof typeof counts)[];
    const statistics = Object.fromEntries(names.map((name) => [name, counts[name] - before[name]]));
    return { result, offDevice: [...offDevice], ops, statistics: statistics as Watched<Result>['statistics'] };
  } finally {
    binding.executeOp = executeOp;
  }
}
