/**
 * The wheels with TensorFlow and CUDA for the images, each pinned by its hash.
 *
 * @typedef {import('../../scripts/setup/pinned-wheels.mjs').Wheel} Wheel
 */
import { CUBLAS_WHEEL, librariesOf, NVRTC_WHEELS, TENSORFLOW_WHEELS } from '../../scripts/setup/pinned-wheels.mjs';

const TENSORFLOW_LICENSES = ['tensorflow/THIRD_PARTY_NOTICES.txt', 'tensorflow/include/LICENSE'];

/** The files that set-up unpacks, by `process.arch`, and the licenses, which an image must contain. @type {Record<string, Wheel>} */
export const CPU_TENSORFLOW = Object.fromEntries(
  Object.entries(TENSORFLOW_WHEELS).map(([arch, wheel]) => [
    arch,
    { ...wheel, members: [...wheel.members, ...TENSORFLOW_LICENSES] },
  ]),
);

/** @type {Wheel} */
export const GPU_TENSORFLOW = {
  project: 'tensorflow',
  version: '2.20.0',
  sha256: '481499fd0f824583de8945be61d5e827898cdaa4f5ea1bc2cc28ca2ccff8229e',
  sizeBytes: 620_570_129,
  tags: ['--implementation', 'cp', '--python-version', '3.11', '--abi', 'cp311', '--platform', 'manylinux_2_17_x86_64'],
  members: ['tensorflow/libtensorflow_cc.so.2', 'tensorflow/libtensorflow_framework.so.2', ...TENSORFLOW_LICENSES],
};

/** The wheel for both engines: the CUDA engine opens cublasLt, TensorFlow's GPU build cublas, too. @type {Wheel} */
export const CUBLAS = { ...CUBLAS_WHEEL, members: [...CUBLAS_WHEEL.members, 'nvidia/cublas/lib/libcublas.so.12'] };

/**
 * The compiler that cuBLASLt opens by itself, from its own folder, if it wants a kernel that it has not compiled. It is not known
 * which products do, if any.
 *
 * @type {Wheel}
 */
export const NVRTC = {
  .../** @type {Wheel} */ (NVRTC_WHEELS.x64),
  members: [
    ...librariesOf(/** @type {Wheel} */ (NVRTC_WHEELS.x64)),
    'nvidia_cuda_nvrtc_cu12-12.9.86.dist-info/licenses/License.txt',
  ],
};

/**
 * The other wheels that TensorFlow's GPU build needs, in the versions that it was built with: the libraries that it opens before it uses a
 * GPU (cudart, cufft, cusolver, cusparse and cudnn; if one is missing it uses the CPU), their dependencies, ptxas, and
 * libdevice, the functions of kernels that it compiles when they first run. Omitted, because LoRA training does not call them:
 * cuDNN's convolutions (engines_precompiled, 450 MB) and recurrent layers (adv, 245 MB), curand, NCCL, CUPTI, the multi-GPU
 * cusolver and the headers; together 1.2 GB.
 *
 * @type {Wheel[]}
 */
export const CUDA = [
  cuda('cuda_runtime', '12.5.82', '3e79a060e126df40fd3a068f3f787eb000fa51b251ec6cd97d09579632687115', 895_707, [
    'libcudart.so.12',
  ]),
  cuda('cufft', '11.2.3.61', '9a6e8df162585750f61983a638104a48c756aa13f9f48e19ab079b38e3c828b8', 192_524_114, [
    'libcufft.so.11',
  ]),
  cuda('cusolver', '11.6.3.83', '93cfafacde4428b71778eeb092ec615a02a3d05404da1bcf91c53e3fa1bce42b', 130_341_232, [
    'libcusolver.so.11',
  ]),
  cuda('cusparse', '12.5.1.3', '016df8e993c437e8301e62739f01775cba988fd5253cd4c64173f8e8d2f8e752', 217_558_979, [
    'libcusparse.so.12',
  ]),
  cuda('nvjitlink', '12.5.82', 'f9b37bc5c8cf7509665cb6ada5aaa0ce65618f2332b7d3e78e9790511f111212', 21_298_879, [
    'libnvJitLink.so.12',
  ]),
  cuda('cudnn', '9.3.0.75', '9ad9c6929ebb5295eb4a1728024666d1c88283373e265a0c5c883e6f9d5cd76d', 577_163_502, [
    'libcudnn.so.9',
    'libcudnn_graph.so.9',
    'libcudnn_ops.so.9',
    'libcudnn_cnn.so.9',
    'libcudnn_heuristic.so.9',
    'libcudnn_engines_runtime_compiled.so.9',
  ]),
  {
    ...cuda('cuda_nvcc', '12.5.82', 'b03e545b8e8c3ce7ebcd7fc44063180ff52ff01d064ece2127ed90a04ef12cd0', 22_468_537, []),
    members: [
      'nvidia/cuda_nvcc/bin/ptxas',
      'nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc',
      'nvidia_cuda_nvcc_cu12-12.5.82.dist-info/License.txt',
    ],
  },
];

/**
 * The contents of each engine's image, by the engine's name for write-sbom.mjs.
 *
 * @param {string} engine `cpu`, `cuda`, `cuda-and-tensorflow` or `none`
 * @returns {Wheel[]}
 */
export function wheelsOfEngine(engine) {
  const cpu = CPU_TENSORFLOW[process.arch];
  if (engine === 'none') return [];
  if (!cpu) throw new Error(`There is no pinned TensorFlow for ${process.arch}.`);
  if (engine === 'cpu') return [cpu];
  if (engine === 'cuda') return [cpu, CUBLAS, NVRTC];
  if (engine === 'cuda-and-tensorflow') return [cpu, CUBLAS, NVRTC, GPU_TENSORFLOW, ...CUDA];
  throw new Error(`There is no engine ${engine}.`);
}

/**
 * @param {string} part
 * @param {string} version
 * @param {string} sha256
 * @param {number} sizeBytes
 * @param {string[]} libraries
 * @returns {Wheel}
 */
function cuda(part, version, sha256, sizeBytes, libraries) {
  return {
    project: `nvidia-${part.replaceAll('_', '-')}-cu12`,
    version,
    sha256,
    sizeBytes,
    tags: ['--implementation', 'py', '--python-version', '3.11', '--abi', 'none', '--platform', 'manylinux2014_x86_64'],
    members: [
      ...libraries.map((name) => `nvidia/${part}/lib/${name}`),
      `nvidia_${part}_cu12-${version}.dist-info/License.txt`,
    ],
  };
}
