// npm test: runs set-up, then all tests, and format, lint and types beside them. All of them run even if one fails. The last lines
// name what failed and count the tests. The emulated card is tested if sources of the CUDA engine differ from the main branch.
// npm test -- PATH…: the tests of these paths, and nothing else.
// --faults adds the fault suite, the emulated card with its layers and trainings, mutants of the kernels, lint with types, and the cases
// of which npm test has the first alone (ALL_CASES=1, test/usual-cases.ts). --audit checks the dependencies for known vulnerabilities.
// --fuzz fuzzes the API for two minutes. Continuous integration uses all three.
// npm run test:fast | test:faults | test:emulated | test:s3 [-- FILES…]: one suite, or its FILES (--suite NAME).

import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { git } from '../../scripts/setup/run-command.mjs';
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { installS3Server } from '../../scripts/stack/s3-server.mjs';
import { auditDependencies, reportAudit } from './audit.mjs';
import { runChecks } from './check.mjs';
import { runApiFuzzer } from './fuzz-api.mjs';
import { countsLine, printEnd, runEmulatedTests, runVitest, sumOfCounts } from './run-vitest.mjs';

/** @import { TestRun } from './run-vitest.mjs' */

/** The seconds that each part took. */
class PartTimes {
  /** @type {string[]} */
  #parts = [];

  /**
   * @template Result
   * @param {string} name
   * @param {Promise<Result>} part
   */
  async of(name, part) {
    const startedAt = performance.now();
    try {
      return await part;
    } finally {
      this.#parts.push(`${name} ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
    }
  }

  text() {
    return `Time: ${this.#parts.join(', ')}`;
  }
}

/** The sources that the tests on the emulated card test. */
const SOURCES = [
  'packages/tensor',
  'packages/models/src',
  'services/worker/src/device',
  'services/worker/src/self-test',
  'scripts/setup',
  'test/emulated',
  'test/checks/kernel-*',
];

/** Branches that continuous integration has tested, in the order in which they are looked for. */
const TESTED_BRANCHES = ['origin/HEAD', 'origin/main', 'main'];

/**
 * True if sources of the CUDA engine differ from the main branch, in commits or in the working tree. A change on the main branch
 * itself is left to continuous integration, and so is a copy without git.
 *
 * @returns {Promise<boolean>}
 */
async function cudaSourcesChanged() {
  try {
    const base = await testedCommit();
    const changed = await git('diff', '--name-only', base, '--', ...SOURCES);
    const added = await git('ls-files', '--others', '--exclude-standard', '--', ...SOURCES);
    return changed !== '' || added !== '';
  } catch {
    return false;
  }
}

/** @returns {Promise<string>} the newest commit that this branch shares with the main branch */
async function testedCommit() {
  for (const branch of TESTED_BRANCHES) {
    const base = await git('merge-base', branch, 'HEAD').catch(() => null);
    if (base !== null) return base;
  }
  return 'HEAD';
}

const OPTIONS = ['--faults', '--audit', '--fuzz'];
/** Minutes of the API fuzzer with `--fuzz`. */
const FUZZ_MINUTES = '2';

/** Paths of tests that need Chromium. */
const OF_THE_PAGE = /browser|page|^test$/;

/** The suites, each with set-up for it alone. @type {Record<string, (args: string[]) => Promise<TestRun>>} */
const SUITES = {
  /** The tests beside the sources of all that needs no engine, no service and no Redis. */
  async fast(args) {
    const { modelsDir } = await setUp({ redis: false });
    return await runVitest(['--project', 'fast', ...args], { ...process.env, MODELS_DIR: modelsDir });
  },
  /** The fault suite. */
  async faults(args) {
    const { modelsDir } = await setUp({ demoModel: false, cuda: 'emulated' });
    const own = { TF_CPP_MIN_LOG_LEVEL: '2', ...process.env, MODELS_DIR: modelsDir };
    return await runVitest(['--config', 'test/faults/vitest.config.ts', ...args], own);
  },
  /** The engine's suites on the CUDA engine with an emulated card. --all: the slow ones, too; --kernels: without layers and trainings. */
  async emulated(args) {
    const instructionSets = args.includes('--all') ? 'all' : 'own';
    const { modelsDir } = await setUp({ cuda: 'emulated', redis: false, instructionSets });
    return await runEmulatedTests(args, { ...process.env, MODELS_DIR: modelsDir });
  },
  /** The tests with a real S3 server. The first run compiles the server from its Go module. */
  async s3(args) {
    const { modelsDir } = await setUp();
    await installS3Server(process.env);
    return await runVitest(['--config', 'test/several-hosts/vitest.config.ts', ...args], {
      ...process.env,
      MODELS_DIR: modelsDir,
    });
  },
};

await runAsCommand(async () => {
  const args = process.argv.slice(2);
  if (args[0] === '--suite') return await runSuite(args[1] ?? '', args.slice(2));
  const chosen = args.filter((argument) => !OPTIONS.includes(argument));
  return chosen.length > 0 ? await runChosen(chosen) : await runAll(new Set(args));
});

/** @param {string} suite @param {string[]} args arguments of vitest @returns {Promise<number>} the exit code */
async function runSuite(suite, args) {
  const start = SUITES[suite];
  if (start === undefined)
    throw new Error(`there is no suite ${suite}; the suites are ${Object.keys(SUITES).join(', ')}`);
  const run = await start(args);
  printEnd(run);
  return run.passed ? 0 : 1;
}

/** @param {string[]} chosen arguments of vitest @returns {Promise<number>} the exit code */
async function runChosen(chosen) {
  const browser = chosen.some((argument) => OF_THE_PAGE.test(argument));
  const { modelsDir } = await setUp({ browser, instructionSets: process.env.ALL_CASES === '1' ? 'all' : 'own' });
  const run = await runVitest(chosen, environment(modelsDir));
  printEnd(run);
  return run.passed ? 0 : 1;
}

/** @param {Set<string>} options @returns {Promise<number>} the exit code */
async function runAll(options) {
  const withFaults = options.has('--faults');
  const withCard = withFaults || (await cudaSourcesChanged());
  const times = new PartTimes();
  const { modelsDir } = await times.of(
    'set-up',
    setUp({ cuda: withCard ? 'emulated' : 'none', browser: true, instructionSets: withFaults ? 'all' : 'own' }),
  );
  const env = { ...environment(modelsDir), ...(withFaults && { ALL_CASES: '1' }) };
  /** @type {string[]} */
  const failures = [];
  /** The output of the checks, held back until the tests no longer write. @type {string[]} */
  const lines = [];
  const checks = times.of('checks', runChecks({ withLong: withFaults, print: (line) => lines.push(line) }));
  if (options.has('--audit')) {
    console.log('\nAuditing the dependencies');
    const audit = await times.of('audit', auditDependencies({ cache: cacheDir(process.env), env: process.env }));
    if (!reportAudit(audit)) failures.push('audit of the dependencies');
  }
  const beside = {
    card: withCard ? (withFaults ? [] : ['--kernels']) : null,
    faults: withFaults,
    fuzz: options.has('--fuzz'),
  };
  const others = runBesideTheTests(beside, env, times);
  const tests = await times.of('tests', runVitest([], env));
  if (!tests.passed) failures.push('tests');
  failures.push(...(await checks));
  console.log(`\n${lines.join('\n')}`);
  const { runs: otherRuns, output } = await others;
  console.log(output);
  for (const [name, { passed }] of otherRuns) if (!passed) failures.push(name);
  if (!withCard) {
    console.log(
      'Not run: the emulated card, as no source of the CUDA engine differs from the main branch (npm run test:emulated)',
    );
  }
  const runs = [tests, ...otherRuns.map(([, run]) => run)];
  console.log(
    `\n${runs
      .map((run) => run.times)
      .filter(Boolean)
      .join('\n')}`,
  );
  const counts = sumOfCounts(runs.map((run) => run.counts));
  if (failures.length > 0) console.log(`\n${[`Failed: ${failures.join(', ')}`, ...counts.failures].join('\n')}`);
  console.log(times.text());
  console.log(countsLine(counts));
  return failures.length > 0 ? 1 : 0;
}

/**
 * Runs what runs beside the tests, one suite after the other: the emulated card has one thread for most of its time, and the fault suite
 * waits for much of its own. Its output is held back, so that the tests' is not torn.
 *
 * @param {{ card: string[] | null, faults: boolean, fuzz: boolean }} which `card`: the arguments of its suites
 * @param {NodeJS.ProcessEnv} env
 * @param {PartTimes} times
 * @returns {Promise<{ runs: [name: string, run: TestRun][], output: string }>}
 */
async function runBesideTheTests({ card, faults, fuzz }, env, times) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-test-'));
  const file = await open(path.join(folder, 'output'), 'a+');
  try {
    /** @type {[name: string, start: () => Promise<TestRun>][]} */
    const suites = [];
    if (card !== null) suites.push(['emulated card', () => runEmulatedTests(card, env, file.fd)]);
    if (faults) suites.push(['faults', () => runVitest(['--config', 'test/faults/vitest.config.ts'], env, file.fd)]);
    if (fuzz) suites.push(['API fuzzer', () => runApiFuzzer({ minutes: FUZZ_MINUTES }, env, file.fd)]);
    /** @type {[string, TestRun][]} */
    const runs = [];
    for (const [name, start] of suites) runs.push([name, await times.of(name, start())]);
    return { runs, output: await readFile(path.join(folder, 'output'), 'utf8') };
  } finally {
    await file.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param {string} modelsDir @returns {NodeJS.ProcessEnv} */
function environment(modelsDir) {
  return { TF_CPP_MIN_LOG_LEVEL: '2', ...process.env, MODELS_DIR: modelsDir };
}
