import { expect, test } from 'vitest';
import {
  CUDA_LIBRARIES,
  type CudaFindings,
  cudaFaults,
  DRIVER_LIBRARY,
  type DriverFindings,
  type GpuFindings,
  gpuFaults,
  tensorflowCardFault,
} from './gpu-faults.js';

const A10G = { ordinal: 0, name: 'NVIDIA A10G', uuid: 'GPU-8f6b2c1e', capability: [8, 6], totalBytes: 23e9 } as const;

const driver = (changes: Partial<DriverFindings> = {}): DriverFindings => ({
  driverVersion: 12_040,
  error: null,
  devices: [{ ...A10G, capability: [8, 6] }],
  hidden: [],
  version: '550.54.15',
  ...changes,
});
const faultsOf = (changes: Partial<CudaFindings> = {}) =>
  cudaFaults({
    installation: { addonFile: 'cuda.node', architectures: ['sm_86'], digest: '0' },
    driver: driver(),
    deviceFiles: ['/dev/nvidia0'],
    visibleDevices: undefined,
    ...changes,
  });
const cardOf = (name: string, capability: [number, number]) => ({ ...A10G, name, capability });

test('a complete installation has no fault', () => {
  expect(faultsOf()).toEqual([]);
});

test('what is not installed is named, with the command that installs it', () => {
  const missing = faultsOf({ installation: null, driver: null });
  expect(missing).toEqual([expect.stringMatching(/^installation: .*cuda\.node is missing.*npm run setup -- --gpu/)]);
  const empty = faultsOf({ installation: { addonFile: 'cuda.node', architectures: [], digest: '0' } });
  expect(empty).toEqual([expect.stringMatching(/^kernels: .*npm run setup -- --gpu/)]);
  const unloadable = faultsOf({ driver: new Error('libtensorflow_cc.so.2 is missing') });
  expect(unloadable).toEqual(['installation: libtensorflow_cc.so.2 is missing']);
});

test('a missing driver, device or library of the driver is told apart', () => {
  const none = driver({ devices: [], error: "NVIDIA's driver is not found (libcuda.so.1)" });
  expect(faultsOf({ driver: none, deviceFiles: [] })).toEqual([expect.stringMatching(/^driver: there is neither/)]);
  expect(faultsOf({ driver: none })).toEqual([expect.stringMatching(/^toolkit: libcuda\.so\.1/)]);
  const noDevice = driver({ devices: [], error: 'CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected' });
  expect(faultsOf({ driver: noDevice, deviceFiles: [] })).toEqual([expect.stringMatching(/^device: /)]);
  expect(faultsOf({ driver: noDevice })).toEqual([expect.stringMatching(/^driver: CUDA_ERROR_NO_DEVICE \(100\).*Xid/)]);
});

test('a driver that is not ready or was updated is named with what to do, whatever device files there are', () => {
  const notReady = driver({ devices: [], error: 'CUDA_ERROR_SYSTEM_NOT_READY (802): system not yet initialized' });
  const mismatched = driver({
    devices: [],
    error: 'CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): system has unsupported display driver / cuda driver combination',
  });
  for (const deviceFiles of [['/dev/nvidia0'], []]) {
    expect(faultsOf({ driver: notReady, deviceFiles })).toEqual([
      expect.stringMatching(/^driver: CUDA_ERROR_SYSTEM_NOT_READY \(802\).*nvidia-fabricmanager/),
    ]);
    expect(faultsOf({ driver: mismatched, deviceFiles })).toEqual([
      expect.stringMatching(/^driver: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH \(803\).*different versions.*Restart the host/),
    ]);
  }
});

test('a driver that is too old is named with its version and the one that is needed', () => {
  const [old] = faultsOf({ driver: driver({ driverVersion: 11_080, version: '520.61.05' }) });
  expect(old).toMatch(
    /^driver: it is too old \(520\.61\.05\): it supports CUDA 11\.8, and the CUDA engine needs 12\.0\..*525/,
  );
  const unasked = driver({ driverVersion: 11_080, version: null, devices: [], error: 'it is too old' });
  expect(faultsOf({ driver: unasked, deviceFiles: [] })).toEqual([expect.stringMatching(/^driver: it is too old: /)]);
  const blackwell = driver({ devices: [cardOf('NVIDIA B200', [10, 0])] });
  expect(faultsOf({ driver: blackwell })[0]).toMatch(/^driver: .* NVIDIA B200 needs 12\.8\. .*570/);
  expect(faultsOf({ driver: { ...blackwell, driverVersion: 12_080 } })).toEqual([]);
});

test('a card without kernels is named, with what has some', () => {
  const [fault] = faultsOf({ driver: driver({ devices: [cardOf('Tesla T4', [7, 5])] }) });
  expect(fault).toMatch(/^card: Tesla T4 has compute capability 7\.5, .*8\.0.*lorasmith-worker-gpu-tensorflow/);
});

test('CUDA_VISIBLE_DEVICES that names no card is named, with the cards that it could name', () => {
  const hiding = driver({ devices: [], error: 'CUDA_ERROR_NO_DEVICE (100)', hidden: [cardOf('NVIDIA A10G', [8, 6])] });
  const [fault] = faultsOf({ driver: hiding, visibleDevices: 'nonsense' });
  expect(fault).toBe(
    'CUDA_VISIBLE_DEVICES="nonsense" names no GPU. Set it to the number or the UUID of one: 0 (NVIDIA A10G, GPU-8f6b2c1e).',
  );
});

test("TensorFlow's GPU build is for Pascal to Hopper", () => {
  const of = (capability: [number, number]) => tensorflowCardFault(cardOf('a card', capability));
  for (const fitting of [
    [6, 0],
    [7, 5],
    [9, 0],
  ] as [number, number][])
    expect(of(fitting)).toBeNull();
  expect(of([5, 2])).toMatch(/^card: a card has compute capability 5\.2/);
  expect(of([12, 0])).toMatch(/compute capability 12\.0/);
});

const complete: GpuFindings = {
  deviceFiles: ['/dev/nvidia0', '/dev/nvidiactl'],
  missingLibraries: [],
  visibleDevices: '0',
  engineOnGpu: false,
  engineLines: [],
};

/** The beginning of each fault: the part that is missing. */
const parts = (findings: Partial<GpuFindings>) =>
  gpuFaults({ ...complete, ...findings }).map((fault) => /^\w+/.exec(fault)?.[0]);

test('an engine on a GPU has no fault, whatever else was found', () => {
  expect(gpuFaults({ ...complete, engineOnGpu: true, missingLibraries: [DRIVER_LIBRARY] })).toEqual([]);
});

test('each missing part is named', () => {
  expect(parts({ deviceFiles: [], missingLibraries: [DRIVER_LIBRARY] })).toEqual(['driver']);
  expect(parts({ deviceFiles: [] })).toEqual(['device']);
  expect(parts({ missingLibraries: [DRIVER_LIBRARY] })).toEqual(['toolkit']);
  expect(parts({ missingLibraries: ['libcudnn.so.9'] })).toEqual(['library']);
  expect(parts({ visibleDevices: '-1' })).toEqual(['CUDA_VISIBLE_DEVICES']);
  expect(parts({ deviceFiles: [], missingLibraries: [DRIVER_LIBRARY, ...CUDA_LIBRARIES] })).toEqual([
    'driver',
    'library',
  ]);
});

test('missing libraries are listed, the driver’s only under its own fault', () => {
  const [toolkit, library] = gpuFaults({ ...complete, missingLibraries: [DRIVER_LIBRARY, 'libcufft.so.11'] });
  expect(toolkit).toContain(DRIVER_LIBRARY);
  expect(library).toContain('not found: libcufft.so.11.');
});

test('where nothing is missing, the engine’s own words are passed on', () => {
  const faults = gpuFaults({ ...complete, engineLines: ['failed call to cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH'] });
  expect(faults).toHaveLength(1);
  expect(faults[0]).toMatch(/^engine: .*CUDA_ERROR_SYSTEM_DRIVER_MISMATCH$/);
});
