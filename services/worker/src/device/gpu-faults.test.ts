import { expect, test } from 'vitest';
import { CUDA_LIBRARIES, DRIVER_LIBRARY, type GpuFindings, gpuFaults } from './gpu-faults.js';

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
