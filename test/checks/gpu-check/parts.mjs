import path from 'node:path';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { NATIVE_DIR } from '../../../scripts/setup/native-build.mjs';
import { kernelArguments } from './kernel-choice.mjs';
import {
  linesOfLosses,
  linesOfPadding,
  linesOfPeer,
  linesOfReference,
  linesOfSelfTest,
  linesOfTraining,
} from './report.mjs';

/**
 * The facts that parts need.
 *
 * @typedef {object} Check
 * @property {string} out absolute
 * @property {NodeJS.ProcessEnv} env
 * @property {boolean} isEmulated
 * @property {string} demoModel folder
 * @property {string} rows JSONL of the demo
 * @property {number | undefined} maxSteps of the demo
 * @property {string} precision of the demo, on the card and on the CPU
 * @property {string[]} references folders with results of PyTorch
 * @property {Measured[]} models whose speed and memory are measured, the largest first
 * @property {Measured[]} packedModels those that are measured in 4 bits, the largest first
 * @property {Measured | null} mixture of experts; null: the card has no memory for it
 * @property {Sizes} sizes
 * @property {string} textRows JSONL of the rows they are trained on
 * @property {number} steps
 * @property {string | undefined} python with torch for this GPU, TRL and PEFT
 *
 * @typedef {{ name: string, folder: string, bytes: number }} Measured `bytes`: of its weights
 *
 * @typedef {object} Sizes as `parseSizes` reads them
 * @property {string} speed
 * @property {string} peer those of them that others train, too
 * @property {string} quantized
 * @property {string} mixture
 * @property {string} shared rows that share a prompt
 * @property {string} jobs
 * @property {string} padding
 * @property {string} longestRow
 * @property {[prompt: string, generated: string]} generation tokens
 *
 * @typedef {object} Part
 * @property {string} name of its files, and for --only
 * @property {string} title
 * @property {number} limitSeconds
 * @property {(kernels: import('./kernel-choice.mjs').KernelChoice) => import('./run-part.mjs').PartCommand} command `kernels`: those
 *   that the self-test allows
 * @property {(end: import('./run-part.mjs').PartEnd, done: Map<string, import('./run-part.mjs').PartEnd>) => string[]} describe
 *   Markdown for the report; `done`: the parts before
 */

const OWN = (/** @type {string} */ name) => path.join(ROOT_DIR, 'test/checks/gpu-check', name);
const CHECK_REFERENCE = path.join(ROOT_DIR, 'packages/training/dist/check-reference-main.js');
const SELF_TEST = path.join(ROOT_DIR, 'services/worker/dist/self-test/self-test-cli.js');

/** The seconds that loading takes from a slow disk, or on a slow host. @param {number} bytes */
const secondsToLoad = (bytes) => Math.ceil(bytes / 100e6);

/** @param {Check} check @returns {string} the file of the self-test's result */
export function selfTestFile({ out }) {
  return path.join(out, 'parts', 'self-test.json');
}

/** The folder with the data of the worker on the card. @param {Check} check */
function dataDirOf({ out }) {
  return path.join(out, 'data');
}

/** The text of a part's own result. @param {import('./run-part.mjs').PartEnd} end */
const own = ({ result }) => result?.lines ?? [];

/** The name of the card, by the first part. @param {Map<string, import('./run-part.mjs').PartEnd>} done */
export const cardName = (done) => done.get('card')?.result?.card?.name ?? '';

/** @param {string} program @param {string[]} args @param {NodeJS.ProcessEnv} env */
function node(program, args, env) {
  return { program: process.execPath, args: ['--enable-source-maps', program, ...args], env };
}

/**
 * All parts, most important first: whether results are right, whether a job trains, how fast the usual jobs are, then what is
 * used less, and what others do.
 *
 * @param {Check} check
 * @returns {Part[]}
 */
export function partsOf(check) {
  const { models, packedModels, mixture } = check;
  const [largest] = models;
  const ofModels = (/** @type {(model: Measured) => Part[]} */ partsOfModel) => models.flatMap(partsOfModel);
  return [
    ...correctnessParts(check),
    demoPart(check, 'cuda'),
    ...ofModels((model) => [speedPart(check, model)]),
    ...(largest ? [unlikeLengthsPart(check, largest)] : []),
    ...packedModels.map((model) => quantizedPart(check, model)),
    ...(largest ? [generationPart(check, largest), sharedPromptsPart(check, largest), jobsPart(check, largest)] : []),
    ...(mixture ? MIXTURES.map((variant) => mixturePart(check, mixture, variant)) : []),
    ...(largest ? paddingParts(check, largest) : []),
    lostCardPart(check),
    ...ofModels((model) => peerParts(check, model)),
    demoPart(check, 'cpu'),
  ];
}

/** @param {Check} check @returns {Part[]} */
function correctnessParts(check) {
  const env = cudaEnvironment(check);
  return [
    {
      name: 'card',
      title: 'Driver and card',
      limitSeconds: 60,
      command: () => node(OWN('card-main.mjs'), check.isEmulated ? ['--emulated'] : [], env),
      describe: own,
    },
    {
      name: 'self-test',
      title: 'Self-test',
      limitSeconds: 300,
      command: () => {
        const sizes = ['--sizes', check.isEmulated ? 'small' : 'full'];
        return node(SELF_TEST, ['--out', selfTestFile(check), '--data-dir', dataDirOf(check), ...sizes], env);
      },
      describe: linesOfSelfTest,
    },
    {
      name: 'types',
      title: 'Casts, moves and long sums of every type',
      limitSeconds: 60,
      command: () => node(OWN('types-main.mjs'), [], env),
      describe: own,
    },
    ...['float32', 'bfloat16'].map((precision) => ({
      name: `reference-${precision}`,
      title: `PyTorch's results, ${precision}`,
      limitSeconds: 60,
      command: (/** @type {import('./kernel-choice.mjs').KernelChoice} */ kernels) =>
        node(CHECK_REFERENCE, [...check.references, '--precision', precision, ...kernelArguments(kernels)], env),
      describe: linesOfReference,
    })),
  ];
}

/** @param {Check} check @param {'cuda' | 'cpu'} engine @returns {Part} */
function demoPart(check, engine) {
  const { demoModel, rows, precision, maxSteps, out, isEmulated } = check;
  const answers = path.join(ROOT_DIR, 'examples/dates/heldout.jsonl');
  const args = [
    ...['--engine', engine, '--model', demoModel, '--rows', rows, '--precision', precision],
    ...['--data-dir', engine === 'cuda' ? dataDirOf(check) : path.join(out, 'data-cpu')],
    ...(maxSteps === undefined ? [] : ['--max-steps', String(maxSteps)]),
    ...(engine === 'cpu' || isEmulated ? [] : ['--answers', answers]),
  ];
  const command = () => node(OWN('service-main.mjs'), ['demo', ...args], stackEnvironment({ ...check, engine }));
  return engine === 'cuda'
    ? { name: 'demo', title: "The demo's job through the service", limitSeconds: 180, command, describe: own }
    : {
        name: 'demo-cpu',
        title: "The demo's job on the CPU",
        limitSeconds: 240,
        command,
        describe: (end, done) => [...own(end), ...linesOfLosses(done.get('demo'), end)],
      };
}

/** @param {Check} check @returns {Part} */
function lostCardPart(check) {
  const args = [
    ...['--model', check.demoModel, '--rows', check.rows, '--data-dir', dataDirOf(check)],
    ...['--at-launch', check.isEmulated ? '300' : '2000'],
  ];
  return {
    name: 'lost-card',
    title: 'A card that is lost in a job',
    limitSeconds: 120,
    command: () =>
      node(OWN('service-main.mjs'), ['lost-card', ...args], stackEnvironment({ ...check, engine: 'cuda' })),
    describe: own,
  };
}

/**
 * A part that trains a model with training-main.mjs.
 *
 * @param {Check} check
 * @param {{ name: string, title: string, limitSeconds: number, model: Measured, sizes: string, steps?: number, options?: string[],
 *   env?: NodeJS.ProcessEnv, describe?: Part['describe'] }} part `limitSeconds`: without loading
 * @returns {Part}
 */
function trainingPart(check, part) {
  const { name, title, limitSeconds, model, sizes, steps = check.steps, options = [], env = {} } = part;
  const size = ['--model', model.folder, '--sizes', sizes, '--steps', String(steps), '--data-dir', dataDirOf(check)];
  return {
    name,
    title,
    limitSeconds: limitSeconds + secondsToLoad(model.bytes),
    command: (kernels) =>
      node(OWN('training-main.mjs'), [...size, ...options, ...kernelArguments(kernels)], {
        ...cudaEnvironment(check),
        ...env,
      }),
    describe: part.describe ?? ((end) => linesOfTraining(end)),
  };
}

/** @param {Check} check @param {Measured} model */
function speedPart(check, model) {
  return trainingPart(check, {
    name: `speed-${model.name}`,
    title: `Speed and memory: ${model.name}`,
    limitSeconds: 100,
    model,
    sizes: check.sizes.speed,
    describe: (end, done) => linesOfTraining(end, { card: cardName(done), model: model.name }),
  });
}

/** @param {Check} check @param {Measured} model */
function quantizedPart(check, model) {
  return trainingPart(check, {
    name: `nf4-${model.name}`,
    title: `Weights in 4 bits (NF4): ${model.name}`,
    limitSeconds: 100,
    model,
    sizes: check.sizes.quantized,
    options: ['--quantization', 'nf4'],
    describe: (end, done) => linesOfTraining(end, { card: cardName(done), model: `${model.name} in NF4` }),
  });
}

/** Weights of the experts, as the part's name and title have them. */
const MIXTURES = [
  { name: 'mixture', weights: 'bfloat16', quantization: 'none' },
  { name: 'mixture-nf4', weights: '4 bits (NF4)', quantization: 'nf4' },
];

/** @param {Check} check @param {Measured} model @param {(typeof MIXTURES)[number]} variant */
function mixturePart(check, model, { name, weights, quantization }) {
  return trainingPart(check, {
    name,
    title: `A mixture of experts in ${weights}${check.isEmulated ? '' : ': four layers of Qwen3-30B-A3B'}`,
    limitSeconds: 80,
    model,
    sizes: check.sizes.mixture,
    options: ['--quantization', quantization],
  });
}

/** @param {Check} check @param {Measured} model */
function sharedPromptsPart(check, model) {
  return trainingPart(check, {
    name: 'shared-prompts',
    title: `Rows that share prompts: chats, pairs and groups of answers: ${model.name}`,
    limitSeconds: 90,
    model,
    sizes: check.sizes.shared,
    steps: Math.min(check.steps, 5),
  });
}

/** @param {Check} check @param {Measured} model */
function jobsPart(check, model) {
  return trainingPart(check, {
    name: 'several-jobs',
    title: `Several jobs in one pass: ${model.name}`,
    limitSeconds: 60,
    model,
    sizes: check.sizes.jobs,
    options: ['--jobs', '1,2,4'],
  });
}

/** One after the other, so that both find the card as warm. @param {Check} check @param {Measured} model @returns {Part[]} */
function paddingParts(check, model) {
  return ['both', 'depth'].map((padding) =>
    trainingPart(check, {
      name: `padding-${padding}`,
      title: `GPU_LORA_PADDING=${padding}: ${model.name}`,
      limitSeconds: 40,
      model,
      sizes: check.sizes.padding,
      env: { GPU_LORA_PADDING: padding },
      describe: (end, done) => [
        ...linesOfTraining(end),
        ...(padding === 'depth' ? linesOfPadding(end, done.get('padding-both')) : []),
      ],
    }),
  );
}

/** @param {Check} check @param {Measured} model @returns {Part} */
function unlikeLengthsPart(check, model) {
  const args = ['--model', model.folder, '--longest', check.sizes.longestRow, '--data-dir', dataDirOf(check)];
  return {
    name: 'unlike-lengths',
    title: `Rows of twenty lengths near the limit of the memory: ${model.name}`,
    limitSeconds: 120 + secondsToLoad(model.bytes),
    command: (kernels) =>
      node(OWN('unlike-lengths-main.mjs'), [...args, ...kernelArguments(kernels)], cudaEnvironment(check)),
    describe: own,
  };
}

/** @param {Check} check @param {Measured} model @returns {Part} */
function generationPart(check, model) {
  const [prompt, generated] = check.sizes.generation;
  const args = ['--model', model.folder, '--prompt', prompt, '--new', generated];
  return {
    name: 'generation',
    title: `Generation: ${model.name}`,
    limitSeconds: 60 + secondsToLoad(model.bytes),
    command: (kernels) =>
      node(OWN('generation-main.mjs'), [...args, ...kernelArguments(kernels)], cudaEnvironment(check)),
    describe: own,
  };
}

/** @param {Check} check @param {Measured} model @returns {Part[]} */
function peerParts(check, { name, folder, bytes }) {
  const { python, env, steps, textRows } = check;
  if (python === undefined) return [];
  const args = ['--model', folder, '--sizes', check.sizes.peer, '--steps', String(steps), '--rows', textRows];
  return [
    {
      name: `peer-${name}`,
      title: `TRL and PEFT with SDPA on the same rows: ${name}`,
      limitSeconds: 110 + secondsToLoad(bytes),
      command: () => ({ program: python, args: [OWN('peer.py'), ...args], env }),
      describe: (end, done) => linesOfPeer(end, done.get(`speed-${name}`)),
    },
  ];
}

/** Stand-ins for the driver and cuBLASLt that compute on the CPU. */
const EMULATED_LIBRARIES = path.join(NATIVE_DIR, 'build/emulated');

/**
 * The environment of processes that compute with the CUDA engine.
 *
 * @param {{ env: NodeJS.ProcessEnv, isEmulated: boolean }} options
 * @returns {NodeJS.ProcessEnv}
 */
export function cudaEnvironment({ env, isEmulated }) {
  const libraries = isEmulated ? { CUDA_LIBRARY_DIR: EMULATED_LIBRARIES } : {};
  return { TF_CPP_MIN_LOG_LEVEL: '2', ...env, ENGINE: 'cuda', ...libraries };
}

/**
 * The environment of a stack whose worker trains on the CUDA engine, or on the CPU.
 *
 * @param {{ env: NodeJS.ProcessEnv, isEmulated: boolean, engine: 'cuda' | 'cpu' }} options
 * @returns {NodeJS.ProcessEnv}
 */
function stackEnvironment({ env, isEmulated, engine }) {
  const { ENGINE: _, ...base } = cudaEnvironment({ env, isEmulated });
  if (engine === 'cpu') return { ...base, DEVICE: 'cpu' };
  return { ...base, DEVICE: 'gpu', GPU_ENGINE: 'cuda', ...(isEmulated ? { GPU_SELF_TEST: 'small' } : {}) };
}
