// npm run test:mutants [-- PARTS…]: kernels with one error each, and what of the kernel tests notices it. PARTS: of names of files
// or errors. Ends with 1 if an error is not noticed that should be, or the other way round.

import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { NATIVE_DIR } from '../../scripts/setup/native-build.mjs';
import { runCommand } from '../../scripts/setup/run-command.mjs';
import { describeFailure } from '../../scripts/setup/run-steps.mjs';
import { findTensorflowLibrary } from '../../scripts/setup/tensorflow-library.mjs';
import { allMutants, mutate } from './kernel-tests/mutants.mjs';
import { argumentsOf, compileKernelTests, runProgram, VARIANTS } from './kernel-tests.mjs';

/** The head sizes that attention is compiled for. */
const ATTENTION_SIZES = [64, 80, 96, 128, 256, 512];

/** A kernel with an error may never end. */
const TIMEOUT_MS = 120_000;

/**
 * @typedef {object} Outcome
 * @property {import('./kernel-tests/mutants.mjs').Mutant} mutant
 * @property {boolean} isNoticed
 * @property {string} how the first failure; empty if there is none
 */

/**
 * Compiles each mutant in a copy of the kernels and runs the tests of its file.
 *
 * @param {import('./kernel-tests/mutants.mjs').Mutant[]} mutants
 * @param {{ env: NodeJS.ProcessEnv, onOutcome?: (outcome: Outcome) => void }} options
 * @returns {Promise<Outcome[]>}
 * @throws {import('../../scripts/setup/run-steps.mjs').SetupError} when one does not compile
 */
export async function tryMutants(mutants, { env, onOutcome }) {
  const progress = { update: () => {} };
  const cache = cacheDir(env);
  const { library } = await findTensorflowLibrary({ cache, env, progress });
  const options = { identity: library.identity, cache, env, progress };
  /** @type {Map<string, Record<string, string>>} */
  const objectsOf = new Map();
  for (const variant of new Set(mutants.map((mutant) => mutant.variant))) {
    objectsOf.set(variant, (await compileKernelTests(VARIANTS[variant], options)).objects);
  }
  /** @type {Outcome[]} */
  const outcomes = [];
  const waiting = [...mutants];
  const worker = async () => {
    for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
      const outcome = await tryMutant(mutant, objectsOf.get(mutant.variant) ?? {}, env);
      outcomes.push(outcome);
      onOutcome?.(outcome);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return outcomes;
}

/**
 * @param {import('./kernel-tests/mutants.mjs').Mutant} mutant
 * @param {Record<string, string>} objects of the variant's program, by source
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<Outcome>}
 */
async function tryMutant(mutant, objects, env) {
  const variant = VARIANTS[mutant.variant];
  const folder = await mkdtemp(path.join(tmpdir(), 'kernel-mutant-'));
  try {
    await cp(NATIVE_DIR, folder, { recursive: true, filter: (from) => path.basename(from) !== 'build' });
    const file = path.join(folder, mutant.file);
    await writeFile(file, mutate(mutant, await readFile(file, 'utf8')));
    const { source } = mutant;
    const program = path.join(folder, 'kernel-tests');
    const object = path.join(folder, 'mutant.o');
    const remedy = 'see the compiler errors above, and test/checks/kernel-tests/mutants.mjs.';
    const flags = [...variant.flags, '-O1', '-x', 'c++'];
    const compiler = env.CXX || 'g++';
    await runCommand(compiler, [...flags, '-c', source, '-o', object], { cwd: folder, env, remedy });
    const others = Object.entries(objects).flatMap(([of, compiled]) => (of === source ? [] : [compiled]));
    await runCommand(compiler, ['-pthread', object, ...others, ...variant.linkFlags, '-o', program], { env, remedy });
    const args = [...argumentsOf(variant), ...mutant.tests.filter((name) => name !== '')];
    const ownSize = /^attention_(\d+)$/.exec(mutant.kernel)?.[1];
    const withoutOthers =
      ownSize === undefined
        ? []
        : ATTENTION_SIZES.filter((size) => size !== Number(ownSize)).map((size) => `--without=_${size}`);
    const { passed, output } = await runProgram(
      program,
      [...args, ...withoutOthers],
      { ...env, ...variant.env },
      TIMEOUT_MS,
    );
    const failure = /^(FAILED.*|.*ERROR: AddressSanitizer.*|.*runtime error.*)$/m.exec(output)?.[1];
    return { mutant, isNoticed: !passed, how: passed ? '' : (failure ?? output.trim().slice(-200)) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const parts = process.argv.slice(2);
  try {
    const all = await allMutants();
    const chosen = all.filter(
      ({ file, name }) => parts.length === 0 || parts.some((part) => `${file}: ${name}`.includes(part)),
    );
    const outcomes = await tryMutants(chosen, {
      env: process.env,
      onOutcome: ({ mutant, isNoticed, how }) => {
        const expected = isNoticed === (mutant.unnoticed === null) ? '' : ' UNEXPECTED';
        const why = isNoticed ? how : (mutant.unnoticed ?? '');
        console.log(`${isNoticed ? 'noticed' : 'NOT noticed'}${expected}: ${mutant.file}: ${mutant.name} (${why})`);
      },
    });
    const unexpected = outcomes.filter(({ mutant, isNoticed }) => isNoticed !== (mutant.unnoticed === null));
    const noticed = outcomes.filter(({ isNoticed }) => isNoticed);
    console.log(`mutants: ${outcomes.length}, noticed ${noticed.length}, other than expected ${unexpected.length}`);
    process.exitCode = unexpected.length > 0 ? 1 : 0;
  } catch (error) {
    console.error(describeFailure(error));
    process.exitCode = 1;
  }
}
