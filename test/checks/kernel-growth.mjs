// npm run test:growth [-- PARTS…]: the work of each CUDA kernel at a size and at twice the size, counted on the emulated card. PARTS: of
// names of cases, of which the others are left out. Ends with 1 if a kernel's work grows faster than it may.
import { fork } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { EMULATION_FLAGS, FLAGS } from '../../scripts/setup/cuda-engine.mjs';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { BUILD_DIR, compileNative, nativeSources } from '../../scripts/setup/native-build.mjs';
import { describeFailure } from '../../scripts/setup/run-steps.mjs';
import { findTensorflowLibrary } from '../../scripts/setup/tensorflow-library.mjs';
import { setUp } from '../../scripts/setup.mjs';
import { table } from '../bench/tables.mjs';

const MAIN = fileURLToPath(new URL('kernel-growth/growth-main.mjs', import.meta.url));

/**
 * The work of a kernel in one case: the basic blocks that all threads of its launches go through.
 *
 * @typedef {object} Growth
 * @property {string} kernel
 * @property {string} name of the case
 * @property {string} doubled
 * @property {number} size
 * @property {number} once work at the size
 * @property {number} twice at twice the size
 * @property {number} most the growth that is allowed
 *
 * @typedef {object} CaseResult
 * @property {string} name
 * @property {string} doubled
 * @property {number} size
 * @property {string | null} squares
 * @property {Record<string, number>} once by kernel
 * @property {Record<string, number>} twice
 */

/**
 * The measured growth of the engine's kernels.
 *
 * @typedef {object} MeasuredGrowth
 * @property {string[]} kernels all that the engine has
 * @property {Record<string, string>} withoutSize kernels that have no size that grows, and why
 * @property {Growth[]} growths
 */

/**
 * Runs kernels of the CUDA engine at two sizes and counts their work.
 *
 * @param {{ env: NodeJS.ProcessEnv, parts?: string[] }} options `parts`: of names of cases; default, all
 * @returns {Promise<MeasuredGrowth>}
 * @throws {import('../../scripts/setup/run-steps.mjs').SetupError} when the kernels do not compile
 */
export async function measureGrowth({ env, parts = [] }) {
  const folder = await mkdtemp(path.join(tmpdir(), 'kernel-growth-'));
  try {
    const card = path.join(folder, 'card');
    await placeCountingCard(card, env);
    const workFile = path.join(folder, 'work');
    const own = { ENGINE: 'cuda', CUDA_LIBRARY_DIR: card, EMULATED_GPU_WORK_FILE: workFile };
    const { kernels, withoutSize, results } = await runCases([workFile, ...parts], { ...env, ...own });
    return { kernels, withoutSize, growths: results.flatMap(growthsOf) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<Omit<MeasuredGrowth, 'growths'> & { results: CaseResult[] }>}
 */
async function runCases(args, env) {
  const child = fork(MAIN, args, { env: { TF_CPP_MIN_LOG_LEVEL: '2', ...env }, execArgv: [] });
  return await new Promise((resolve, reject) => {
    child.on('message', (message) => resolve(/** @type {any} */ (message)));
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`${MAIN} ended with ${code} and no result`)));
  });
}

/** @param {CaseResult} result @returns {Growth[]} */
function growthsOf({ name, doubled, size, squares, once, twice }) {
  const kernels = [...new Set([...Object.keys(once), ...Object.keys(twice)])].sort();
  return kernels.map((kernel) => ({
    ...{ kernel, name, doubled, size, once: once[kernel] ?? 0, twice: twice[kernel] ?? 0 },
    most: squares !== null && new RegExp(squares).test(kernel) ? MOST_GROWTH.square : MOST_GROWTH.linear,
  }));
}

/** @param {Growth} growth */
const growthOf = ({ once, twice }) => twice / once;

/**
 * @param {MeasuredGrowth} measured
 * @returns {string[]} a line for each kernel whose work grows too fast, and for each whose growth no case shows
 */
export function growthFaults({ kernels, withoutSize, growths }) {
  const tooFast = growths.filter((growth) => !(growthOf(growth) <= growth.most)).map(describeGrowth);
  const launched = new Set(growths.map(({ kernel }) => kernel));
  const shown = new Set(growths.filter((growth) => growthOf(growth) >= LEAST_GROWTH).map(({ kernel }) => kernel));
  const missing = kernels.filter((kernel) => (kernel in withoutSize ? !launched.has(kernel) : !shown.has(kernel)));
  const wrong = Object.keys(withoutSize).filter((kernel) => !kernels.includes(kernel) || shown.has(kernel));
  return [
    ...tooFast,
    ...missing.map(
      (kernel) => `${kernel}: no case of test/checks/kernel-growth/growth-cases.mjs shows how its work grows`,
    ),
    ...wrong.map(
      (kernel) => `${kernel}: WITHOUT_SIZE names it, but it ${shown.has(kernel) ? 'grows' : 'does not exist'}`,
    ),
  ];
}

/** @param {Growth} growth */
function describeGrowth(growth) {
  const { kernel, name, doubled, size, once, twice, most } = growth;
  return `${kernel}: ${growthOf(growth).toFixed(2)} times the work (${once} → ${twice}) for ${2 * size} ${doubled} instead of ${size}; at most ${most} times is allowed (${name})`;
}

/**
 * An input of one size, and the kernels that it launches. Their work at twice the size is compared with that at the size.
 *
 * @typedef {object} GrowthCase
 * @property {string} name
 * @property {string} doubled the size that is doubled, such as `tokens`
 * @property {number} size large enough that a square would show: some hundreds
 * @property {(size: number) => void} run computes; its tensors are freed after it
 * @property {RegExp} [squares] names of kernels whose work may be a square of this size
 */

/** @param {string} name @param {number} size @param {(tokens: number) => void} run @returns {GrowthCase} */
export const byTokens = (name, size, run) => ({ name, doubled: 'tokens', size, run });

/** The most that work may grow when a size doubles: a little more than it, for the last blocks of a launch. */
const MOST_GROWTH = { linear: 2.2, square: 4.4 };
/** The least growth that shows that a kernel's work depends on the size at all. */
const LEAST_GROWTH = 1.5;

/** Flags without vectors or unrolled loops, so that each round of a loop is a basic block. */
const COUNTING_FLAGS = [...FLAGS, '-O1', '-fsanitize-coverage=trace-pc'];

/**
 * Compiles an emulated driver whose kernels count their work, and puts it beside the emulated cuBLASLt.
 *
 * @param {string} folder for both
 * @param {NodeJS.ProcessEnv} env
 * @throws {import('../../scripts/setup/run-steps.mjs').SetupError} when it does not compile
 */
async function placeCountingCard(folder, env) {
  const progress = { update: () => {} };
  const cache = cacheDir(env);
  const { library } = await findTensorflowLibrary({ cache, env, progress });
  const own = ['cuda/emulation/driver.cc', 'cuda/emulation/work.cc'];
  const target = {
    file: 'libcuda.so.1',
    sources: [...own, ...(await nativeSources('kernels'))],
    flags: COUNTING_FLAGS,
    flagsOf: Object.fromEntries(own.map((source) => [source, EMULATION_FLAGS])),
    libraries: ['-Wl,-soname,libcuda.so.1'],
  };
  const { files } = await compileNative([target], { identity: library.identity, cache, env, progress });
  await mkdir(folder, { recursive: true });
  await symlink(/** @type {string} */ (files[target.file]), path.join(folder, 'libcuda.so.1'));
  await symlink(path.join(BUILD_DIR, 'emulated/libcublasLt.so.12'), path.join(folder, 'libcublasLt.so.12'));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const parts = process.argv.slice(2);
  try {
    await setUp({ cuda: 'emulated', redis: false });
    const measured = await measureGrowth({ env: process.env, parts });
    const { kernels, growths } = measured;
    const rows = growths
      .toSorted((a, b) => a.kernel.localeCompare(b.kernel))
      .map((growth) => [
        ...[growth.kernel, growth.name, `${growth.size} ${growth.doubled}`, String(growth.once), String(growth.twice)],
        ...[growthOf(growth).toFixed(2), String(growth.most)],
      ]);
    console.log(table(['kernel', 'case', 'size', 'work', 'at twice the size', 'growth', 'allowed'], rows));
    const faults = growthFaults(parts.length === 0 ? measured : { kernels: [], withoutSize: {}, growths });
    for (const fault of faults) console.log(fault);
    const launched = new Set(growths.map(({ kernel }) => kernel)).size;
    console.log(`kernels: ${kernels.length}, launched ${launched}; faults: ${faults.length}`);
    process.exitCode = faults.length > 0 ? 1 : 0;
  } catch (error) {
    console.error(describeFailure(error));
    process.exitCode = 1;
  }
}
