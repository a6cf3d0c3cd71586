import path from 'node:path';
import { gigabytes, percent, table } from '../../bench/tables.mjs';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { cudaEnvironment, stackEnvironment } from './engine-environment.mjs';

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
 * @property {Measured[]} models whose speed and memory are measured
 * @property {string} textRows JSONL of the rows they are trained on
 * @property {number} steps
 * @property {string | undefined} python with torch for this GPU, TRL and PEFT
 *
 * @typedef {{ name: string, folder: string, sizes: string, bytes: number }} Measured `bytes`: of its weights
 *
 * @typedef {object} Part
 * @property {string} name of its files, and for --only
 * @property {string} title
 * @property {number} limitSeconds
 * @property {import('./run-part.mjs').PartCommand} command
 * @property {(end: import('./run-part.mjs').PartEnd, done: Map<string, import('./run-part.mjs').PartEnd>) => string[]} describe
 *   Markdown for the report; `done`: the parts before
 */

const OWN = (/** @type {string} */ name) => path.join(ROOT_DIR, 'checks/gpu-check', name);
const CHECK_REFERENCE = path.join(ROOT_DIR, 'packages/training/dist/check-reference-main.js');
const SELF_TEST = path.join(ROOT_DIR, 'services/worker/dist/self-test/self-test-cli.js');

/** The seconds that loading takes from a slow disk, or on a slow host. @param {number} bytes */
const secondsToLoad = (bytes) => Math.ceil(bytes / 100e6);

/**
 * All parts, most important first.
 *
 * @param {Check} check
 * @returns {Part[]}
 */
export function partsOf(check) {
  const cuda = cudaEnvironment(check);
  const node = (/** @type {string} */ program, /** @type {string[]} */ args = [], env = cuda) => ({
    program: process.execPath,
    args: ['--enable-source-maps', program, ...args],
    env,
  });
  const dataDir = path.join(check.out, 'data');
  const demo = (/** @type {'cuda' | 'cpu'} */ engine, /** @type {string[]} */ extra) =>
    node(
      OWN('demo-main.mjs'),
      [
        ...['--engine', engine, '--model', check.demoModel, '--rows', check.rows],
        ...['--precision', check.precision],
        ...['--data-dir', engine === 'cuda' ? dataDir : path.join(check.out, 'data-cpu')],
        ...(check.maxSteps === undefined ? [] : ['--max-steps', String(check.maxSteps)]),
        ...extra,
      ],
      stackEnvironment({ ...check, engine }),
    );
  const own = (/** @type {import('./run-part.mjs').PartEnd} */ { result }) => result?.lines ?? [];
  return [
    { name: 'card', title: 'Driver and card', limitSeconds: 60, command: node(OWN('card-main.mjs')), describe: own },
    {
      name: 'self-test',
      title: 'Self-test',
      limitSeconds: 120,
      command: node(SELF_TEST, [
        ...['--out', path.join(check.out, 'parts', 'self-test.json'), '--data-dir', dataDir],
        ...['--sizes', check.isEmulated ? 'small' : 'full'],
      ]),
      describe: linesOfSelfTest,
    },
    ...['float32', 'bfloat16'].map((precision) => ({
      name: `reference-${precision}`,
      title: `PyTorch's results, ${precision}`,
      limitSeconds: 60,
      command: node(CHECK_REFERENCE, [...check.references, '--precision', precision]),
      describe: linesOfReference,
    })),
    {
      name: 'demo',
      title: "The demo's job through the service",
      limitSeconds: 150,
      command: demo('cuda', check.isEmulated ? [] : ['--answers', path.join(ROOT_DIR, 'examples/dates/heldout.jsonl')]),
      describe: own,
    },
    {
      name: 'lost-card',
      title: 'A card that is lost in a job',
      limitSeconds: 90,
      command: node(
        OWN('lost-card-main.mjs'),
        [
          ...['--model', check.demoModel, '--rows', check.rows, '--data-dir', dataDir],
          ...['--at-launch', check.isEmulated ? '300' : '2000'],
        ],
        stackEnvironment({ ...check, engine: 'cuda' }),
      ),
      describe: own,
    },
    ...check.models.flatMap(({ name, folder, sizes, bytes }) => {
      const options = ['--model', folder, '--sizes', sizes, '--steps', String(check.steps)];
      const { python } = check;
      return [
        {
          name: `speed-${name}`,
          title: `Speed and memory: ${name}`,
          limitSeconds: 100 + secondsToLoad(bytes),
          command: node(OWN('training-main.mjs'), [...options, '--data-dir', dataDir]),
          describe: linesOfTraining,
        },
        ...(python === undefined
          ? []
          : [
              {
                name: `peer-${name}`,
                title: `TRL and PEFT with SDPA on the same rows: ${name}`,
                limitSeconds: 110 + secondsToLoad(bytes),
                command: {
                  program: python,
                  args: [OWN('peer.py'), ...options, '--rows', check.textRows],
                  env: check.env,
                },
                describe: (/** @type {import('./run-part.mjs').PartEnd} */ end, /** @type {any} */ done) =>
                  linesOfPeer(end, done.get(`speed-${name}`)),
              },
            ]),
      ];
    }),
    {
      name: 'demo-cpu',
      title: "The demo's job on the CPU",
      limitSeconds: 240,
      command: demo('cpu', []),
      describe: (end, done) => [...own(end), ...linesOfLosses(done.get('demo'), end)],
    },
  ];
}

/** @param {import('./run-part.mjs').PartEnd} end */
function linesOfSelfTest({ result }) {
  if (result === null) return [];
  const faults = result.cases.filter((/** @type {any} */ { fault }) => fault !== null);
  return [
    `${result.card?.name}, ${result.card?.driver}: ${result.cases.length} cases, ${faults.length} with a fault; the engine is ${result.trusted ? '' : 'NOT '}trusted${result.done ? '' : ' so far; it did not end'}.`,
    ...faults.map((/** @type {any} */ { name, fault }) => `- ${name}: ${fault}`),
  ];
}

/** The parts that exceed their tolerance, and how many do not. @param {import('./run-part.mjs').PartEnd} end */
function linesOfReference({ log }) {
  const bad = log.split('\n').filter((line) => /^ {2}(BEYOND|FAILED)/.test(line));
  const good = log.split('\n').filter((line) => /^ {2}ok/.test(line)).length;
  return [
    `${good} comparisons are within their tolerances, ${bad.length} are not.`,
    ...bad.map((line) => `- ${line.trim()}`),
  ];
}

/** @param {import('./run-part.mjs').PartEnd} end */
function linesOfTraining({ result }) {
  if (result === null) return [];
  const text = table(
    [
      'rows × tokens',
      's/step',
      'tokens/s',
      'peak memory',
      'recompute',
      'memory expected',
      'error',
      's/step expected',
      'error',
    ],
    result.sizes.map((/** @type {any} */ size) => {
      const head = `${size.rows} × ${size.length}`;
      if (size.error) return [head, size.error, '', '', '', '', '', '', ''];
      const { estimate, peak_memory_bytes: peak, seconds_per_step: seconds } = size;
      const expected = estimate
        ? [
            gigabytes(estimate.peak_memory_bytes),
            peak ? percent(estimate.peak_memory_bytes / peak - 1) : '',
            estimate.seconds_per_step.toFixed(3),
            percent(estimate.seconds_per_step / seconds - 1),
          ]
        : ['', '', '', ''];
      const rate = size.tokens_per_second.toFixed(0);
      return [head, seconds.toFixed(3), rate, peak ? gigabytes(peak) : '', size.recompute ? 'yes' : 'no', ...expected];
    }),
  );
  return [
    `Loaded in ${result.load_seconds.toFixed(1)} s; engine ${result.engine}, kernels ${result.kernels}.`,
    '',
    text.trimEnd(),
    '',
    'For each step; expected are 2 waits, the second of them without anything to wait for, and no waits for memory, trims or failed allocations:',
    '',
    countsTable(result.sizes),
  ];
}

/** @param {any[]} sizes those that did not fit have no counts */
function countsTable(sizes) {
  const counted = sizes.filter(({ per_step: counts }) => counts);
  const number = (/** @type {number} */ value) => value.toFixed(Number.isInteger(value) ? 0 : 1);
  return table(
    [
      ...['rows × tokens', 'launches', 'uploads', 'waits', 'waits for memory', 'partial trims', 'full trims'],
      ...['failed allocations', 'held beyond the peak'],
    ],
    counted.map(({ rows, length, per_step: counts, reserved_memory_bytes: reserved, peak_memory_bytes: peak }) => [
      `${rows} × ${length}`,
      number(counts.launches),
      number(counts.uploads),
      number(counts.waits),
      number(counts.memoryWaits),
      number(counts.partialTrims),
      number(counts.fullTrims),
      number(counts.failedAllocations),
      gigabytes(reserved - peak),
    ]),
  ).trimEnd();
}

/** @param {import('./run-part.mjs').PartEnd} end @param {import('./run-part.mjs').PartEnd | undefined} ours */
function linesOfPeer({ result }, ours) {
  if (result === null) return [];
  const text = table(
    ['rows × tokens', 's/step', 'tokens/s', 'peak memory', 'recompute', 'ours, tokens/s', 'ratio'],
    result.sizes.map((/** @type {any} */ size) => {
      const head = `${size.rows} × ${size.length}`;
      if (size.error) return [head, size.error, '', '', '', '', ''];
      const same = ours?.result?.sizes.find(
        (/** @type {any} */ one) => one.rows === size.rows && one.length === size.length,
      );
      const rate = same?.tokens_per_second;
      return [
        head,
        size.seconds_per_step.toFixed(3),
        size.tokens_per_second.toFixed(0),
        size.peak_memory_bytes ? gigabytes(size.peak_memory_bytes) : '',
        size.recompute ? 'yes' : 'no',
        rate ? rate.toFixed(0) : '',
        rate ? `${(rate / size.tokens_per_second).toFixed(2)} ×` : '',
      ];
    }),
  );
  const versions = Object.entries(result.versions).map(([name, version]) => `${name} ${version}`);
  return [`${result.device}; ${versions.join(', ')}.`, '', text.trimEnd()];
}

/**
 * @param {import('./run-part.mjs').PartEnd | undefined} onCard
 * @param {import('./run-part.mjs').PartEnd} onCpu
 */
function linesOfLosses(onCard, onCpu) {
  const other = new Map((onCard?.result?.steps ?? []).map((/** @type {any} */ { step, loss }) => [step, loss]));
  const rows = (onCpu.result?.steps ?? []).flatMap((/** @type {any} */ { step, loss }) => {
    const card = other.get(step);
    return card === undefined ? [] : [[step, card.toFixed(5), loss.toFixed(5), Math.abs(card - loss).toExponential(1)]];
  });
  if (rows.length === 0) return [];
  return ['', 'Losses step by step:', '', table(['step', 'CUDA engine', 'CPU', 'difference'], rows).trimEnd()];
}
