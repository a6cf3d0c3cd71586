import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * The report of a real job on the same rows, and the manifest of its adapter.
 *
 * @typedef {{ report: import('../../../packages/contracts/dist/index.js').Report, manifest: import('../../../packages/contracts/dist/index.js').AdapterManifest }} Template
 *
 * @typedef {object} StubTrainerOptions
 * @property {Template} template
 * @property {number} scale so much faster than real time
 * @property {() => void} onLoad called when a base model is loaded
 */

/** The seconds that a step takes: so `max_steps` of a job is its time alone. */
export const SECONDS_PER_STEP = 1;
export const TOKENS_PER_STEP = 1_000;
/** Seconds that loading a base model takes. */
const LOAD_SECONDS = 30;
/** Parts of a run, each with an event. The worker records one a second at most, as for a real trainer. */
const PARTS = 20;

/**
 * A trainer that takes the time of its jobs, divided by the scale, and computes nothing. It reports the events of a training, and writes the files of
 * an adapter. It saves no checkpoints: a run that continues starts again.
 *
 * @param {StubTrainerOptions} options
 * @returns {import('../../../services/worker/dist/trainer/trainer-process.js').TrainerProcess}
 */
export function startStubTrainer({ template, scale, onLoad }) {
  let runs = 0;
  let isUsable = true;
  /** @type {Promise<void> | null} */
  let loading = null;
  const seconds = (/** @type {number} */ real) => sleep((real / scale) * 1_000);

  /** @type {import('../../../services/worker/dist/trainer/trainer-process.js').TrainerProcess['run']} */
  const run = async (order, { signal, recycle, onEvent }) => {
    runs++;
    try {
      if (loading === null) {
        onLoad();
        loading = seconds(LOAD_SECONDS);
      }
      await loading;
      const total = order.spec.training.max_steps ?? 1;
      onEvent({ type: 'report-ready', data: { report: reportOf(template, total) } });
      for (let part = 1; part <= PARTS; part++) {
        // The jobs of a trainer divide its time.
        await seconds((total * SECONDS_PER_STEP * runs) / PARTS);
        if (signal.aborted) return { outcome: { kind: 'stopped', reason: signal.reason }, concurrent: runs - 1 };
        onEvent({ type: 'step-finished', data: stepOf(Math.round((total * part) / PARTS), total) });
        if (recycle.aborted && part < PARTS) return { outcome: { kind: 'recycled' }, concurrent: runs - 1 };
      }
      const files = await writeAdapter(order.paths.outputFolder);
      return { outcome: { kind: 'finished', outcome: outcomeOf(template, order.spec, files) }, concurrent: runs - 1 };
    } finally {
      runs--;
    }
  };
  return {
    pid: undefined,
    get usable() {
      return isUsable;
    },
    trainedMs: 0,
    run,
    generate: async () => {
      throw new Error('the stub generates no text');
    },
    openSession: async () => {
      throw new Error('the stub opens no sessions');
    },
    async end() {
      isUsable = false;
    },
  };
}

/** @param {Template} template @param {number} total */
function reportOf({ report }, total) {
  const { steps, tokens } = report;
  return { ...report, steps: { ...steps, total }, tokens: { ...tokens, total: total * TOKENS_PER_STEP } };
}

/** @param {number} step @param {number} total */
function stepOf(step, total) {
  return {
    step,
    total_steps: total,
    epoch: step / total,
    loss: 1,
    accuracy: 0.5,
    learning_rate: 1e-4,
    grad_norm: 1,
    tokens_per_second: TOKENS_PER_STEP / SECONDS_PER_STEP,
    seconds_left: (total - step) * SECONDS_PER_STEP,
  };
}

/** @param {string} folder */
async function writeAdapter(folder) {
  const files = [];
  for (const [name, content] of [
    ['adapter_config.json', Buffer.from('{}')],
    ['adapter_model.safetensors', Buffer.alloc(1_024)],
  ]) {
    await writeFile(path.join(folder, /** @type {string} */ (name)), /** @type {Buffer} */ (content));
    const sha256 = createHash('sha256')
      .update(/** @type {Buffer} */ (content))
      .digest('hex');
    files.push({ name: /** @type {string} */ (name), bytes: content?.length ?? 0, sha256 });
  }
  return files;
}

/**
 * @param {Template} template
 * @param {import('../../../packages/contracts/dist/index.js').JobSpec} spec
 * @param {import('../../../packages/contracts/dist/index.js').TrainingOutcome['files']} files
 * @returns {import('../../../packages/contracts/dist/index.js').TrainingOutcome}
 */
function outcomeOf({ manifest }, spec, files) {
  const { base_model, lora, versions, origin } = manifest;
  if (origin.kind !== 'trained') throw new Error(`the template's adapter is ${origin.kind}`);
  const { dataset, validation_dataset, report, result, probe, checks } = origin;
  const ofBase = { ...base_model, name: spec.base_model };
  return { base_model: ofBase, lora, versions, files, dataset, validation_dataset, report, result, probe, checks };
}
