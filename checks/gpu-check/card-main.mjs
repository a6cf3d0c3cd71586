// Describes the card and its driver, and the engine that sees them; writes both to RESULT_FILE.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { gigabytes } from '../../bench/tables.mjs';
import { writePartResult } from './part-result.mjs';

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
const { engine } = await import('../../packages/tensor/dist/index.js');
const { cuda } = engine;
if (cuda === null) throw new Error(`the engine is ${engine.kind}, not cuda`);
const { card } = cuda;
const { driverVersion } = cuda.describe();
const memory = cuda.memory();
const kernels = cuda.loadKernels();
const missing = kernels.filter(({ error }) => error !== null);
lines.push(
  `- engine: ${card.name} (${card.uuid}), compute capability ${card.capability.join('.')}, ${card.multiprocessors} multiprocessors, the driver supports CUDA ${Math.floor(driverVersion / 1000)}.${(driverVersion % 1000) / 10}`,
  `- memory: ${gigabytes(memory.freeBytes)} of ${gigabytes(memory.totalBytes)} free, ${gigabytes(card.memoryBytesPerSecond)}/s by clock and width`,
  `- kernels: ${kernels.length - missing.length} of ${kernels.length} load`,
  ...missing.map(({ module, name, error }) => `  - ${module} ${name}: ${error}`),
);
writePartResult({ lines, cards, card, driverVersion, memory, missing });
if (missing.length > 0) process.exitCode = 1;
