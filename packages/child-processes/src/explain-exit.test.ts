import { expect, test } from 'vitest';
import { cudaErrorIn, endsCudaContext, isUnloadableKernel } from './explain-exit.js';

const found = (text: string) => {
  const error = cudaErrorIn(text);
  return error && { ...error, ends: endsCudaContext(error), unloadable: isUnloadableKernel(error) };
};

test("the driver's errors are told apart by what they leave behind", () => {
  expect(found('AddV2(float32[3]): kernel AddFloat32: CUDA_ERROR_LAUNCH_FAILED (719): unspecified')).toEqual({
    name: 'CUDA_ERROR_LAUNCH_FAILED',
    code: 719,
    ends: true,
    unloadable: false,
  });
  expect(found('CUDA_ERROR_OUT_OF_MEMORY (2)')).toMatchObject({ ends: false, unloadable: false });
  expect(found('module norm: CUDA_ERROR_NO_BINARY_FOR_GPU (209)')).toMatchObject({ ends: false, unloadable: true });
  expect(found('OOM when allocating tensor')).toBeNull();
});
