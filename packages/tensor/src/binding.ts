import { createRequire } from 'node:module';
import path from 'node:path';
import { type CudaDevice, type CudaEngine, loadCudaAddon } from './cuda.js';
import { loadFusedLibrary } from './kernels/fused-library.js';

/** An attribute of an op in the addon's form; `type` is TensorFlow's TF_AttrType. */
export interface OpAttribute {
  name: string;
  type: number;
  value: boolean | number | string | number[];
}

interface OutputInfo {
  id: number;
  shape: number[];
  dtype: number;
}

/** The N-API addon of tfjs-node. Tensors are numbers, ops are names, and every call is synchronous. */
interface Binding {
  createTensor(shape: number[], dtype: number, data: Float32Array | Int32Array | Uint8Array): number;
  deleteTensor(id: number): void;
  tensorDataSync(id: number): Float32Array | Int32Array | BigInt64Array | Uint8Array;
  executeOp(name: string, attributes: OpAttribute[], inputs: number[], outputCount: number): OutputInfo[];
  getNumOfTensors(): number;
  isUsingGpuDevice(): boolean;
  TF_Version: string;
}

/** `cpu` and `tensorflow`: TensorFlow's library for processors or for GPUs. `cuda`: our kernels for GPUs, native/cuda. */
export type EngineKind = 'cpu' | 'cuda' | 'tensorflow';

export interface Engine {
  /** The version of TensorFlow's C library. */
  version: string;
  kind: EngineKind;
  /** The device that ops run on. */
  device: 'cpu' | 'gpu';
  /** The CUDA engine's addon and the card; null on other engines. */
  cuda: (CudaEngine & { card: CudaDevice }) | null;
}

/** Loads the compiled addon of tfjs-node-gpu, the only part of that package in use: its JavaScript does not run on Node 23 and later. */
function loadTensorflow(): Binding {
  const require = createRequire(import.meta.url);
  const packageFile = require.resolve('@tensorflow/tfjs-node-gpu/package.json');
  return require(path.join(path.dirname(packageFile), 'lib/napi-v8/tfjs_binding.node')) as Binding;
}

/** Opens the card. TensorFlow's addon must not be loaded yet: it lists the devices once. */
function startCuda(): NonNullable<Engine['cuda']> {
  const addon = loadCudaAddon();
  return { ...addon, card: addon.start() };
}

/**
 * TensorFlow's binding with what TensorFlow cannot report: a copy from the card that failed (it reads NaN), and that a copy to
 * the card found no memory ("Dst tensor is not initialized").
 */
function reportingFailures(tensorflow: Binding, cuda: CudaEngine): Binding {
  const outOfMemory = <Result>(call: () => Result): Result => {
    try {
      return call();
    } catch (error) {
      const bytes = cuda.takeFailedAllocation();
      const failure = cuda.failure();
      if (failure !== null) throw new Error(failure, { cause: error });
      if (bytes === 0 || (error instanceof Error && error.message.includes('OOM when allocating'))) throw error;
      const { currentBytes, totalBytes } = cuda.memory();
      const use = `${currentBytes} of the card's ${totalBytes} bytes are in tensors`;
      throw new Error(`OOM when allocating ${bytes} bytes: CUDA_ERROR_OUT_OF_MEMORY (2); ${use}`, { cause: error });
    }
  };
  const createTensor: Binding['createTensor'] = (...args) => outOfMemory(() => tensorflow.createTensor(...args));
  const executeOp: Binding['executeOp'] = (...args) => outOfMemory(() => tensorflow.executeOp(...args));
  const tensorDataSync: Binding['tensorDataSync'] = (id) => {
    const data = outOfMemory(() => tensorflow.tensorDataSync(id));
    const failure = cuda.failure();
    if (failure !== null) throw new Error(failure);
    return data;
  };
  return Object.create(tensorflow, {
    createTensor: { value: createTensor },
    // Writable: tests watch it.
    executeOp: { value: executeOp, writable: true },
    tensorDataSync: { value: tensorDataSync },
  }) as Binding;
}

/**
 * ENGINE selects the engine of this process. Without it, TensorFlow's library decides.
 * @throws Error if the CUDA engine is wanted and no card can be used: why
 */
function load(): { binding: Binding; engine: Engine } {
  const { ENGINE: wanted } = process.env;
  if (wanted === 'cuda') {
    const cuda = startCuda();
    const tensorflow = loadTensorflow();
    if (!tensorflow.isUsingGpuDevice()) throw new Error("TensorFlow does not see the CUDA engine's device");
    // The definitions of the fused ops.
    if (loadFusedLibrary() === null) throw new Error('the fused ops are not compiled: run npm run setup');
    const engine: Engine = { version: tensorflow.TF_Version, kind: 'cuda', device: 'gpu', cuda };
    return { binding: reportingFailures(tensorflow, cuda), engine };
  }
  if (wanted === 'cpu') process.env.CUDA_VISIBLE_DEVICES = '-1';
  const binding = loadTensorflow();
  const [kind, device] = binding.isUsingGpuDevice() ? (['tensorflow', 'gpu'] as const) : (['cpu', 'cpu'] as const);
  return { binding, engine: { version: binding.TF_Version, kind, device, cuda: null } };
}

export const { binding, engine } = load();

/**
 * Allocates exactly the bytes of what `make` makes on a card: for tensors that stay, such as weights. Others are rounded up to a class of
 * sizes, so that what they free fits later ones (see CudaEngine.allocateExactly).
 */
export function exactly<Result>(make: () => Result): Result {
  const { cuda } = engine;
  if (cuda === null) return make();
  cuda.allocateExactly(true);
  try {
    return make();
  } finally {
    cuda.allocateExactly(false);
  }
}
