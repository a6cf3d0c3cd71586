// Describes the card and its driver, the engine that sees them, and the libraries that it opened; writes all to RESULT_FILE.
// node card-main.mjs [--emulated]
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gigabytes } from '../../bench/tables.mjs';
import { writePartResult } from './run-part.mjs';

const FIELDS = [
  ...['name', 'driver_version', 'memory.total', 'memory.used', 'compute_cap', 'pci.bus_id', 'pcie.link.gen.current'],
  ...[
    'pcie.link.width.current',
    'power.limit',
    'clocks.max.sm',
    'clocks.max.mem',
    'ecc.mode.current',
    'mig.mode.current',
  ],
  ...['compute_mode', 'temperature.gpu'],
];
const run = promisify(execFile);

/** @type {Record<string, string>[]} */
const cards = [];
/** @type {string[]} */
const lines = [];
try {
  const { stdout } = await run('nvidia-smi', [`--query-gpu=${FIELDS.join(',')}`, '--format=csv,noheader'], {
    timeout: 20_000,
  });
  for (const line of stdout.trim().split('\n')) {
    const texts = line.split(',').map((text) => text.trim());
    const card = Object.fromEntries(FIELDS.map((field, index) => [field, texts[index] ?? '']));
    cards.push(card);
    lines.push(`- ${FIELDS.map((field) => `${field} ${card[field]}`).join(', ')}`);
  }
} catch (error) {
  lines.push(`- nvidia-smi: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : error}`);
}
writePartResult({ lines, cards });

// Its import is the test: it throws where the engine sees no card.
const { cast, chooseKernels, engine, scope, tensorOf } = await import('../../../packages/tensor/dist/index.js');
const { cuda } = engine;
const isEmulated = process.argv.includes('--emulated');
if (cuda === null) throw new Error(`the engine is ${engine.kind}, not cuda`);
const { card } = cuda;
const { driverVersion } = cuda.describe();
const memory = cuda.memory();
const kernels = cuda.loadKernels();
const missing = kernels.filter(({ error }) => error !== null);
const cublas = cuda.cublas();
// cuBLASLt opens NVRTC for some products alone, so one is computed.
const plain = chooseKernels('raw');
for (const dtype of /** @type {const} */ (['float32', 'bfloat16'])) {
  scope(() => {
    const matrix = cast(tensorOf(new Float32Array(64 * 64), [64, 64]), dtype);
    plain.matMul(matrix, matrix).dispose();
  });
}
cuda.synchronize();
const nvrtc = await openedFiles(/libnvrtc\b/);
lines.push(
  `- engine: ${card.name} (${card.uuid}), compute capability ${card.capability.join('.')}, ${card.multiprocessors} multiprocessors, the driver supports CUDA ${cudaText(driverVersion)}`,
  `- memory: ${gigabytes(memory.freeBytes)} of ${gigabytes(memory.totalBytes)} free, ${gigabytes(card.memoryBytesPerSecond)}/s by clock and width`,
  `- libraries: cuBLASLt ${versionText(cublas.version)} (${cublas.file}), NVRTC ${nvrtc.length > 0 ? `opened (${nvrtc.join(', ')})` : 'not opened'}`,
  `- kernels: ${kernels.length - missing.length} of ${kernels.length} load`,
  ...missing.map(({ module, name, error }) => `  - ${module} ${name}: ${error}`),
);
const names = kernels.map(({ module, name }) => ({ module, name }));
const header = {
  ...(isEmulated ? {} : { card: `${card.name}, ${gigabytes(memory.totalBytes)}` }),
  driver: `${cards[0]?.driver_version ?? 'of an unknown version'}, for CUDA ${cudaText(driverVersion)}`,
  cuBLASLt: `${versionText(cublas.version)}, ${cublas.file}`,
  NVRTC: nvrtc.length > 0 ? `opened, ${nvrtc.join(', ')}` : 'not opened',
};
writePartResult({ lines, header, cards, card, driverVersion, memory, cublas, nvrtc, missing, kernels: names });
if (missing.length > 0) process.exitCode = 1;

/** @param {number} version such as 12090 */
function cudaText(version) {
  return `${Math.floor(version / 1000)}.${(version % 1000) / 10}`;
}

/** Files of libraries that this process has opened. @param {RegExp} name */
async function openedFiles(name) {
  const maps = await readFile('/proc/self/maps', 'utf8');
  const files = maps.split('\n').map((line) => line.slice(line.indexOf('/')));
  return [...new Set(files.filter((file) => file.startsWith('/') && name.test(file)))];
}

/** @param {number} version such as 120901 */
function versionText(version) {
  const [major, minor] = [Math.floor(version / 10_000), Math.floor(version / 100) % 100];
  return version === 0 ? 'of an unknown version' : `${major}.${minor}.${version % 100}`;
}
