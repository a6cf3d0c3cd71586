import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { findBrowser } from './setup/browser.mjs';
import { installCublas, installCudaEngine } from './setup/cuda-engine.mjs';
import { installCudaKernels } from './setup/cuda-kernels.mjs';
import { installDemoModel } from './setup/demo-model.mjs';
import { installEngineAddon } from './setup/engine-addon.mjs';
import { installFusedOps } from './setup/fused-ops.mjs';
import { cacheDir, ROOT_DIR } from './setup/locations.mjs';
import { installNodePackages, isSetUp } from './setup/node-packages.mjs';
import { checkSetUpByOwner, mayWriteCheckout, prerequisitesStep } from './setup/prerequisites.mjs';
import { findRedis } from './setup/redis-server.mjs';
import { runCommand } from './setup/run-command.mjs';
import { describeFailure, runSteps, SetupError } from './setup/run-steps.mjs';
import { findTensorflowLibrary } from './setup/tensorflow-library.mjs';
import { installWeightFiles } from './setup/weight-files.mjs';

/**
 * Makes a clone ready to run. Needs only Node, Python with pip, a C++ compiler and make. Each step first checks whether it
 * is already done; if all are, this takes about a second. A clone that this user may not write must be set up already.
 *
 * @param {object} [options] which parts are needed
 * @param {NodeJS.ProcessEnv} [options.env]
 * @param {boolean} [options.redis] default true
 * @param {boolean} [options.demoModel] default true
 * @param {boolean} [options.page] the web page; default true
 * @param {boolean} [options.browser] Chromium, for the tests of the web page; default false. A machine that can have none is
 *   no failure of set-up: those tests report it
 * @param {'none' | 'emulated' | 'gpu'} [options.cuda] the CUDA engine with its kernels, which take minutes the first time:
 *   `emulated`, with the libraries that emulate a GPU; `gpu`, with cuBLAS, for a machine that has one; default `none`
 * @param {'own' | 'all'} [options.instructionSets] for which the fused ops are compiled; default `own`: the best one of this machine
 * @returns {Promise<{ modelsDir: string, redis: import('./setup/redis-server.mjs').RedisSource | undefined }>}
 * @throws {import('./setup/run-steps.mjs').SetupError} naming the step
 */
export async function setUp({
  env = process.env,
  redis = true,
  demoModel = true,
  page = true,
  browser = false,
  cuda = 'none',
  instructionSets = 'own',
} = {}) {
  const modelsDir = path.resolve(ROOT_DIR, env.MODELS_DIR || 'models');
  /** @type {import('./setup/redis-server.mjs').RedisSource | undefined} */
  let redisSource;
  let cache = '';
  /** @type {import('./setup/run-steps.mjs').Step} */
  const redisStep = {
    name: 'Redis',
    async run(progress) {
      const { source, origin } = await findRedis({ cache: cacheDir(env), env, progress });
      redisSource = source;
      return origin;
    },
  };
  /** @type {import('./setup/run-steps.mjs').Step} */
  const cudaStep = {
    name: 'CUDA engine',
    async run(progress) {
      const { library } = await findTensorflowLibrary({ cache, env, progress });
      const engine = await installCudaEngine(library, { cache, env, progress, emulated: cuda === 'emulated' });
      return `addon ${engine}; ${await installCudaKernels({ cache, env, progress })}`;
    },
  };
  /** @type {import('./setup/run-steps.mjs').Step} */
  const cublasStep = {
    name: 'cuBLAS',
    run: async (progress) => (await installCublas({ cache, env, progress })).origin,
  };
  /** @type {import('./setup/run-steps.mjs').Step} */
  const browserStep = { name: 'Chromium', run: (progress) => describeBrowser({ cache, env, progress }) };
  /** @type {import('./setup/run-steps.mjs').Step} */
  const modelStep = {
    name: 'Demo model',
    run: (progress) => installDemoModel({ cache, env, modelsDir, progress }),
  };
  if (!mayWriteCheckout()) {
    checkSetUpByOwner();
    await runSteps(redis ? [redisStep] : []);
    return { modelsDir, redis: redisSource };
  }
  if (!isSetUp()) {
    process.stderr.write(
      'Set-up of a fresh clone: downloads the Node packages, TensorFlow, Redis and a small model, and compiles C++ and TypeScript. ' +
        `It takes about ${cuda === 'none' ? 3 : 10} minutes on two cores, and seconds from then on.\n`,
    );
  }
  await runSteps([
    prerequisitesStep(env),
    {
      name: 'Node packages',
      async run(progress) {
        cache = cacheDir(env);
        return await installNodePackages({ cache, env, progress });
      },
    },
    // Fetching and unpacking leave cores to what compiles.
    {
      atOnce: [
        [
          {
            name: 'TensorFlow and its Node addon',
            async run(progress) {
              const { library, origin } = await findTensorflowLibrary({ cache, env, progress });
              const addon = await installEngineAddon(library, { cache, env, progress });
              const fusedOps = await installFusedOps(library, { cache, env, progress, instructionSets });
              return `${origin}; addon ${addon}; fused ops ${fusedOps}`;
            },
          },
          { name: 'Addon for weights', run: (progress) => installWeightFiles({ cache, env, progress }) },
          ...(cuda === 'none' ? [] : [cudaStep]),
          ...(cuda === 'gpu' ? [cublasStep] : []),
        ],
        [
          ...(redis ? [redisStep] : []),
          ...(browser ? [browserStep] : []),
          { name: 'Compile', run: (progress) => compilePackages({ env, progress }) },
          ...(page ? [{ name: 'Web page', run: () => buildPage(env) }] : []),
          ...(demoModel ? [modelStep] : []),
        ],
      ],
    },
  ]);
  return { modelsDir, redis: redisSource };
}

/**
 * Installs the Node packages alone, which is all that checks without tests need.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @throws {import('./setup/run-steps.mjs').SetupError} naming the step
 */
export async function installPackages(env = process.env) {
  await runSteps([
    prerequisitesStep(env),
    { name: 'Node packages', run: (progress) => installNodePackages({ cache: cacheDir(env), env, progress }) },
  ]);
}

/**
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./setup/run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 */
async function describeBrowser(options) {
  try {
    return (await findBrowser(options)).origin;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    return `NOT THERE, so the tests of the web page will fail: ${error.message}. To do: ${error.remedy}`;
  }
}

/**
 * Compiles every package and service that has changed since the last time.
 *
 * @param {{ env: NodeJS.ProcessEnv, progress: import('./setup/run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 * @throws {import('./setup/run-steps.mjs').SetupError}
 */
async function compilePackages({ env, progress }) {
  await runCommand(process.execPath, [path.join(ROOT_DIR, 'node_modules/typescript/bin/tsc'), '--build'], {
    cwd: ROOT_DIR,
    env,
    onTick: (seconds) => progress.update(`compiling, ${seconds} s`),
    remedy: 'see the compiler errors above. In an unchanged clone this is a bug: please report it.',
  });
  return 'compiled';
}

/**
 * Builds the web page unless its sources are as the last time.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Promise<string>} one line for the report
 * @throws {import('./setup/run-steps.mjs').SetupError}
 */
export async function buildPage(env = process.env) {
  const output = await runCommand(process.execPath, [path.join(ROOT_DIR, 'packages/page/build-site.mjs')], {
    env,
    remedy: 'see the output above. In an unchanged clone this is a bug: please report it.',
  });
  return output.trim().split('\n').at(-1) ?? '';
}

/**
 * Runs the main function of a command. A failure of set-up is shown without a stack trace, and the process exits with 1.
 *
 * @param {() => Promise<number | undefined>} main may return the exit code
 */
export async function runAsCommand(main) {
  try {
    process.exitCode = (await main()) ?? 0;
  } catch (error) {
    process.stderr.write(`${describeFailure(error)}\n`);
    process.exitCode = 1;
  }
}

// npm run setup; with `-- --gpu` also what the CUDA engine needs on a machine with a GPU; --without-page leaves out the web page.
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await runAsCommand(async () => {
    const cuda = process.argv.includes('--gpu') ? 'gpu' : 'none';
    await setUp({ cuda, page: !process.argv.includes('--without-page') });
    return 0;
  });
}
