import { join } from 'node:path';
import { Semaphore } from '@lorasmith/concurrency';
import {
  ADAPTER_FILES,
  type ForwardBackwardOp,
  type LoadOp,
  type OptimizerStepOp,
  ProductError,
  type SavedSessionAdapter,
  type SaveOp,
  type SessionModelDescription,
  type SessionOp,
  type SessionResult,
} from '@lorasmith/contracts';
import { baseModelOfAdapter, digestArchitecture, type ModelFolder, type ModelTexts } from '@lorasmith/model-folder';
import { ALL_LAYERS, type Decoder, LoraAdapter } from '@lorasmith/models';
import { manifestLora, writePeftFolder } from '@lorasmith/peft-files';
import type { SessionPlan } from '@lorasmith/planning';
import { digestFile } from '@lorasmith/storage';
import { add, dispose, fill, keep, scope, type Tensor, tensorOf, toFloat32Array, toNumber } from '@lorasmith/tensor';
import type { AdamW } from '../adamw.js';
import type { LeasedBase } from '../base-model-cache.js';
import { runnable } from '../batches.js';
import { engineError } from '../engine-here.js';
import { ofKind } from '../objectives/trained-objective.js';
import { type Disposals, readInitialAdapter, readInitialManifest, requireWeightsOf } from '../plan-run.js';
import { allFinite } from '../publishing/read-back.js';
import { writeCheckedAdapter } from '../publishing/write-checked-adapter.js';
import { FORWARD_SHARE, throwIfStopped } from '../shared-pass/engine-time.js';
import type { Participant } from '../shared-pass/pass-scheduler.js';
import { versionsHere } from '../trained-outcome.js';
import { checkData } from './check-data.js';
import { readOptimizer, writeOptimizer } from './optimizer-file.js';
import { type DatumFigures, type SessionBatch, sessionBatchOf, sessionObjectiveOn } from './session-objective.js';

/** The advice where the memory of an op runs out. */
export const LESS_MEMORY = 'Send shorter data, or use a lower rank.';

export interface SessionParts {
  model: ModelFolder;
  plan: SessionPlan;
  leased: LeasedBase;
  adapter: LoraAdapter;
  optimizer: AdamW;
  passes: Participant;
  /** The most tokens of a micro-batch of several data. */
  passTokens: number;
  texts: ModelTexts;
  signal: AbortSignal;
  disposals: Disposals;
}

/** The results of ops that do not throw. */
type Done<Kind extends SessionResult['kind']> = Extract<SessionResult, { kind: Kind }>;

/** A model that is trained op by op: adapter, optimizer, and the gradient since the last step. */
export class TrainingSession {
  readonly described: SessionModelDescription;
  readonly #parts: SessionParts;
  readonly #base: Decoder;
  /** One op at a time, in the order in which they are asked for. */
  readonly #ops = new Semaphore(1);
  /** `[parameters]` the sum of the gradients since the last step; null: there is none. */
  #gradient: Tensor | null = null;
  #isClosed = false;

  constructor(parts: SessionParts) {
    const { model, plan, leased, adapter } = parts;
    this.#parts = parts;
    this.#base = ofKind(leased.model, 'decoder');
    const { maxPositions: maxTokens, vocabSize: vocabularySize } = plan.architecture;
    const digests = {
      weights_sha256: leased.weightsSha256,
      architecture_sha256: digestArchitecture(plan.architecture),
    };
    this.described = {
      base_model: baseModelOfAdapter(model, digests),
      precision: this.#base.dtype,
      maxTokens,
      vocabularySize,
      parameters: adapter.parameterCount,
      modules: adapter.modules,
    };
  }

  /**
   * Does one op. One that fails leaves the model, the optimizer and the gradient as they were.
   * @throws ProductError invalid_request, row_too_long, non_finite_loss, invalid_adapter, out_of_memory, storage_full, cancelled, and as
   * writeCheckedAdapter
   */
  async do(op: SessionOp): Promise<SessionResult> {
    return await this.#ops.run(async () => {
      throwIfStopped(this.#parts.signal);
      if (this.#isClosed) throw new ProductError('cancelled', 'The session is closed.');
      try {
        return await this.#do(op);
      } catch (error) {
        throw engineError(error, LESS_MEMORY);
      }
    });
  }

  /** Frees the session once its ops have ended. */
  async close(): Promise<void> {
    await this.#ops.run(async () => {
      this.#isClosed = true;
      this.#dropGradient();
      await this.#parts.disposals.dispose();
    });
  }

  #do(op: SessionOp): Promise<SessionResult> {
    switch (op.kind) {
      case 'forward-backward':
        return this.#forwardBackward(op);
      case 'optimizer-step':
        return this.#step(op);
      case 'save':
        return this.#save(op);
      case 'load':
        return this.#load(op);
    }
  }

  async #forwardBackward(op: ForwardBackwardOp): Promise<Done<'forward-backward'>> {
    checkData(op, this.#parts.plan.architecture);
    const figures: DatumFigures[] = [];
    let sum: Tensor | null = null;
    try {
      for (const indices of microBatchesOf(op, this.#parts.passTokens)) {
        const data = indices.map((index) => op.data[index]!);
        const result = await this.#pass(sessionBatchOf(data, op), data[0]!.targetsEach, op.isForwardOnly);
        for (const [position, index] of indices.entries()) figures[index] = result.figures[position]!;
        if (result.gradient !== null) sum = addedTo(sum, result.gradient);
      }
      const metrics = metricsOf(op, figures);
      if (sum !== null) this.#requireFinite(metrics, sum);
      const added = sum;
      sum = null;
      if (added !== null) this.#gradient = addedTo(this.#gradient, added);
      return {
        kind: 'forward-backward',
        logProbabilities: figures.map(({ logProbabilities }) => logProbabilities),
        metrics,
      };
    } finally {
      dispose(sum);
    }
  }

  /** One micro-batch, forward and back unless only forward. */
  async #pass(
    batch: SessionBatch,
    targetsEach: number,
    isForwardOnly: boolean,
  ): Promise<{ figures: readonly DatumFigures[]; gradient: Tensor | null }> {
    const { adapter, passes, passTokens, plan } = this.#parts;
    const objective = sessionObjectiveOn(this.#base, targetsEach);
    const tokens = objective.tokensIn(batch);
    if (isForwardOnly) {
      const forward = () => objective.loss(batch, { adapters: [{ adapter }] });
      const { figures } = await passes.inEngineCall(FORWARD_SHARE * tokens, forward);
      return { figures: figures!, gradient: null };
    }
    // Memory was admitted for micro-batches of the tokens of a pass. The numbers are the same.
    const recomputedLayers = tokens > passTokens ? ALL_LAYERS : plan.recomputedLayers;
    const microBatch = { batch: runnable(objective, batch), adapter, dropoutSeed: [0, 0] as const, recomputedLayers };
    const { losses, correct, gradient, figures } = await passes.lossAndGradients(microBatch);
    dispose([losses, correct]);
    return { figures: figures as readonly DatumFigures[], gradient };
  }

  #requireFinite(metrics: Record<string, number>, gradient: Tensor): void {
    const loss = metrics['loss:sum'];
    const kernels = this.#base.kernels.of('float32');
    const areFinite = Number.isFinite(loss) && Number.isFinite(scope(() => toNumber(kernels.squareSum(gradient, 1))));
    if (areFinite) return;
    const message = `The loss (${loss}) or its gradient is not a finite number, so nothing was added to the gradient. Check weights, advantages and logprobs, or lower the learning rate.`;
    throw new ProductError('non_finite_loss', message);
  }

  /** Updates the adapter. Changes nothing without a gradient, as an optimizer of PyTorch's. */
  async #step(op: OptimizerStepOp): Promise<Done<'optimizer-step'>> {
    checkStep(op);
    const { adapter, optimizer, passes } = this.#parts;
    const gradient = this.#gradient;
    if (gradient === null) return { kind: 'optimizer-step', metrics: {} };
    const { learning_rate: learningRate, weight_decay: weightDecay, eps: epsilon, beta1, beta2 } = op;
    const maxNorm = op.grad_clip_norm === 0 ? null : op.grad_clip_norm;
    const settings = { learningRate, gradientScale: 1, maxNorm, weightDecay, beta1, beta2, epsilon };
    const norm = await passes.inEngineCall(0, () => {
      const update = keep(optimizer.compute(adapter.parameters, gradient, settings));
      const found = Math.sqrt(toNumber(update.squareSum));
      if (Number.isFinite(found)) adapter.setParameters(optimizer.adopt(update));
      else dispose(update);
      return found;
    });
    this.#dropGradient();
    if (Number.isFinite(norm)) return { kind: 'optimizer-step', metrics: { 'grad_norm:mean': norm } };
    const message = `The norm of the gradient (${norm}) is not a finite number. The model was not changed, and the gradient is zero again.`;
    throw new ProductError('non_finite_loss', message);
  }

  async #save({ folder, withOptimizer, withGradient, isEphemeral }: SaveOp): Promise<Done<'saved'>> {
    const { optimizer, passes } = this.#parts;
    const outcome = await passes.concurrently(async () => {
      const written = isEphemeral ? await this.#writeUnchecked(folder) : await this.#writeChecked(folder);
      const optimizerFile = withOptimizer ? await this.#writeOptimizer(folder, withGradient) : null;
      return { ...written, optimizerFile };
    });
    const { base_model } = this.described;
    const versions = versionsHere(this.#base);
    return { kind: 'saved', outcome: { base_model, versions, ...outcome, steps: optimizer.step } };
  }

  async #writeChecked(folder: string): Promise<Pick<SavedSessionAdapter, 'lora' | 'files' | 'checked'>> {
    const { model, adapter, texts, passes, signal } = this.#parts;
    const { inEngineCall } = passes;
    const options = { base: this.#base, model, adapter, outputFolder: folder, texts, inEngineCall, signal };
    const { lora, files, probe, checks } = await writeCheckedAdapter(options);
    return { lora, files, checked: { probe, checks } };
  }

  async #writeUnchecked(folder: string): Promise<Pick<SavedSessionAdapter, 'lora' | 'files' | 'checked'>> {
    const { model, adapter, signal } = this.#parts;
    if (!allFinite(toFloat32Array(adapter.parameters))) {
      throw new ProductError(
        'non_finite_loss',
        'A number of the adapter is not finite. Train with a lower learning rate.',
      );
    }
    const trained = adapter.toPeft(model.name);
    const meant = await writePeftFolder(folder, trained, model);
    const files = [];
    for (const name of [ADAPTER_FILES.config, ADAPTER_FILES.weights]) {
      throwIfStopped(signal);
      files.push({ name, ...(await digestFile(join(folder, name))) });
    }
    return { lora: manifestLora(trained, meant), files, checked: null };
  }

  async #writeOptimizer(
    folder: string,
    withGradient: boolean,
  ): Promise<NonNullable<SavedSessionAdapter['optimizerFile']>> {
    const { step, moments } = this.#parts.optimizer;
    const [first, second] = [toFloat32Array(moments.first), toFloat32Array(moments.second)];
    const file = join(folder, ADAPTER_FILES.optimizer);
    const gradient = withGradient && this.#gradient !== null ? toFloat32Array(this.#gradient) : null;
    await writeOptimizer(file, { step, first, second, gradient });
    return { name: ADAPTER_FILES.optimizer, ...(await digestFile(file)) };
  }

  async #load({ folder, withOptimizer, withGradient }: LoadOp): Promise<Done<'loaded'>> {
    const { model, plan, leased, adapter, optimizer, passes, signal } = this.#parts;
    const count = adapter.parameterCount;
    const read = await passes.concurrently(async () => {
      const manifest = await readInitialManifest(folder, SAVED);
      if (manifest !== null) requireWeightsOf(manifest, model, leased.weightsSha256, SAVED);
      const initial = await readInitialAdapter(folder, plan.targets, SAVED);
      const state = withOptimizer ? await readOptimizer(join(folder, ADAPTER_FILES.optimizer), count) : null;
      return { initial, state };
    });
    throwIfStopped(signal);
    const { groups } = this.#base;
    const saved = new LoraAdapter(groups, { targets: plan.targets, dropout: 0, seed: 0, initial: read.initial });
    const parameters = toFloat32Array(saved.parameters);
    saved.dispose();
    adapter.setParameters(tensorOf(parameters, [count]));
    const { step, first, second, gradient } = read.state ?? { step: 0, first: null, second: null, gradient: null };
    const moment = (values: Float32Array | null) => (values === null ? fill([count], 0) : tensorOf(values, [count]));
    optimizer.restore(step, { first: moment(first), second: moment(second) });
    this.#dropGradient();
    if (withGradient && gradient !== null) this.#gradient = tensorOf(gradient, [count]);
    return { kind: 'loaded' };
  }

  #dropGradient(): void {
    dispose(this.#gradient);
    this.#gradient = null;
  }
}

/** The adapter that a session loads, in messages. */
const SAVED = {
  name: 'The saved adapter',
  training: 'the session',
  remedy: 'load it into a model with the same train_attn, train_mlp, train_unembed and rank',
};

/** A gradient with another added, which both are taken over. @param before null: none */
function addedTo(before: Tensor | null, gradient: Tensor): Tensor {
  if (before === null) return gradient;
  const sum = keep(scope(() => add(before, gradient)));
  dispose([before, gradient]);
  return sum;
}

/** The data in micro-batches: next to each other, with the same number of targets of a position, and up to a number of tokens. */
function* microBatchesOf({ data }: ForwardBackwardOp, mostTokens: number): Generator<number[]> {
  let [current, tokens]: [number[], number] = [[], 0];
  for (const [index, datum] of data.entries()) {
    const isAlike = current.length === 0 || data[current[0]!]!.targetsEach === datum.targetsEach;
    if (current.length > 0 && (!isAlike || tokens + datum.tokens.length > mostTokens)) {
      yield current;
      [current, tokens] = [[], 0];
    }
    current.push(index);
    tokens += datum.tokens.length;
  }
  yield current;
}

function metricsOf({ data }: ForwardBackwardOp, figures: readonly DatumFigures[]): Record<string, number> {
  const sumOf = (of: (figures: DatumFigures, index: number) => number) =>
    figures.reduce((sum, one, index) => sum + of(one, index), 0);
  const ofAll = {
    'loss:sum': sumOf((one) => one.loss),
    'tokens:sum': sumOf((_, index) => data[index]!.tokens.length),
    'trained_tokens:sum': sumOf(({ weights }) => weights.reduce((count, one) => count + (one === 0 ? 0 : 1), 0)),
  };
  const clips = figures.some(({ clipped }) => clipped !== null);
  return clips ? { ...ofAll, 'clipped_tokens:sum': sumOf(({ clipped }) => clipped ?? 0) } : ofAll;
}

/** @throws ProductError invalid_request */
function checkStep({ kind: _, ...numbers }: OptimizerStepOp): void {
  for (const [name, value] of Object.entries(numbers)) {
    const isBeta = name.startsWith('beta');
    const isAllowed = Number.isFinite(value) && value >= 0 && (!isBeta || value < 1);
    // Where a moment is zero, the update is divided by eps alone, in float32.
    if (isAllowed && (name !== 'eps' || Math.fround(value) > 0)) continue;
    const expected = isBeta ? 'from 0 to below 1' : name === 'eps' ? 'above 0' : '0 or more';
    throw new ProductError('invalid_request', `${name} is ${value}; ${expected} is expected.`, { param: name });
  }
}
