import type { ClassifierArchitecture } from '@lorasmith/model-folder';
import {
  argMax,
  cast,
  dispose,
  type FloatDType,
  kernelsFor,
  scope,
  sum,
  type Tensor,
  tensorOf,
  toInt32Array,
  toNumber,
} from '@lorasmith/tensor';
import { activate, activationGradient } from '../activation.js';
import type { ProjectionSlot, Saved } from '../projection.js';
import type { BatchLoss, TrainableModel } from '../trainable-model.js';

/** Rows for a classifier. */
export interface FeatureBatch {
  /** `[rows, width]` */
  features: Float32Array;
  width: number;
  /** `[rows]` */
  labels: Int32Array;
}

/** A stack of linear layers with an activation between them; the last one's outputs are the logits of the classes. */
export class Classifier implements TrainableModel<FeatureBatch> {
  readonly architecture: ClassifierArchitecture;
  readonly dtype: FloatDType;
  readonly slots: readonly ProjectionSlot[];

  constructor(architecture: ClassifierArchitecture, dtype: FloatDType, slots: readonly ProjectionSlot[]) {
    this.architecture = architecture;
    this.dtype = dtype;
    this.slots = slots;
  }

  /** @returns `[rows, classes]` float32 */
  logits(batch: Pick<FeatureBatch, 'features' | 'width'>): Tensor {
    return scope(() => this.#forward(batch, false).logits);
  }

  loss(batch: FeatureBatch): BatchLoss {
    return scope(() => this.#loss(this.#forward(batch, false).logits, batch).result);
  }

  lossAndGradients(batch: FeatureBatch): BatchLoss {
    return scope(() => {
      const { logits, saved, inputs } = this.#forward(batch, true);
      const { result, gradient } = this.#loss(logits, batch);
      this.#backward(gradient, saved, inputs);
      return result;
    });
  }

  /** `inputs[i]` is what the activation before layer i + 1 was given. */
  #forward(
    batch: Pick<FeatureBatch, 'features' | 'width'>,
    record: boolean,
  ): { logits: Tensor; saved: Saved[]; inputs: Tensor[] } {
    const rows = batch.features.length / batch.width;
    let x = cast(tensorOf(batch.features, [rows, batch.width]), this.dtype);
    const saved: Saved[] = [];
    const inputs: Tensor[] = [];
    for (const [index, slot] of this.slots.entries()) {
      if (index > 0) {
        inputs.push(x);
        x = activate(x, this.architecture.activation);
      }
      const result = slot.projection.forward(x, record); // [rows, in] -> [rows, out]
      saved.push(result.saved);
      x = result.output;
    }
    return { logits: cast(x, 'float32'), saved, inputs };
  }

  #loss(logits: Tensor, batch: FeatureBatch): { result: BatchLoss; gradient: Tensor } {
    const rows = batch.labels.length;
    const { loss, gradient } = kernelsFor(logits.dtype).crossEntropy(logits, tensorOf(batch.labels, [rows]));
    const predicted = toInt32Array(argMax(logits));
    const correct = predicted.reduce((count, label, row) => count + (label === batch.labels[row] ? 1 : 0), 0);
    return { result: { lossSum: toNumber(sum(loss, 'all')), labels: rows, correct }, gradient };
  }

  #backward(gradient: Tensor, saved: Saved[], inputs: Tensor[]): void {
    const lowestTrained = this.slots.findIndex((slot) => slot.projection.trained);
    if (lowestTrained === -1) return;
    let current = cast(gradient, this.dtype);
    for (let index = this.slots.length - 1; index >= lowestTrained; index--) {
      const byInput = this.slots[index]!.projection.backward(current, saved[index], index > lowestTrained);
      if (byInput === null) return;
      current = activationGradient(byInput, inputs[index - 1]!, this.architecture.activation);
    }
  }

  dispose(): void {
    for (const slot of this.slots) dispose([slot.frozen.weight, slot.frozen.bias]);
  }
}
