import type { ClassifierArchitecture } from '@lorasmith/model-folder';
import { cast, dispose, type FloatDType, type KernelSet, scope, type Tensor, tensorOf } from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import { type ActingAdapter, checkedAdapters, isTrained, type Pass } from '../pass.js';

/** Rows for a classifier. */
export interface FeatureBatch {
  /** `[rows, width]` */
  features: Float32Array;
  width: number;
  /** `[rows]` */
  labels: Int32Array;
}

/** The tensors that a recorded forward pass keeps for the backward pass. */
export interface SavedClassifier {
  adapters: readonly ActingAdapter[];
  linears: (SavedLinear | null)[];
  /** `inputs[i]` is what the activation before layer i + 1 was given. */
  inputs: Tensor[];
}

/** A stack of linear layers with an activation between them; the last one's outputs are the logits of the classes. */
export class Classifier {
  readonly kind = 'classifier';
  readonly architecture: ClassifierArchitecture;
  readonly dtype: FloatDType;
  /** All linear layers, from the first to the last. */
  readonly groups: readonly LinearGroup[];

  constructor(architecture: ClassifierArchitecture, dtype: FloatDType, groups: readonly LinearGroup[]) {
    this.architecture = architecture;
    this.dtype = dtype;
    this.groups = groups;
  }

  /** The kernels that its layers compute with. */
  get kernels(): KernelSet {
    return this.groups[0]!.linear.kernels;
  }

  /** @returns `[rows, classes]` float32 */
  logits(batch: Pick<FeatureBatch, 'features' | 'width'>, adapters: readonly ActingAdapter[] = []): Tensor {
    return scope(() => this.forward(batch, { adapters, record: false, recomputedLayers: 0 }).logits);
  }

  /**
   * The tokens of the pass are rows, and `recomputedLayers` has no effect. Call it in a scope, which frees the intermediate results.
   * @returns logits `[rows, classes]` float32; saved is null without `pass.record`
   */
  forward(
    { features, width }: Pick<FeatureBatch, 'features' | 'width'>,
    { adapters: given, record }: Pass,
  ): { logits: Tensor; saved: SavedClassifier | null } {
    const rows = features.length / width;
    const adapters = checkedAdapters(given, rows);
    const saved: SavedClassifier = { adapters, linears: [], inputs: [] };
    let x = cast(tensorOf(features, [rows, width]), this.dtype);
    for (const [index, group] of this.groups.entries()) {
      if (index > 0) {
        saved.inputs.push(x);
        x = this.kernels.of(this.dtype).activation(x, this.architecture.activation);
      }
      const result = linearForward(group, x, adapters, record ? 'all' : 'none'); // [rows, in] -> [rows, out]
      saved.linears.push(result.saved);
      x = result.output;
    }
    return { logits: cast(x, 'float32'), saved: record ? saved : null };
  }

  /**
   * The adapters take up their gradients. Frees what was saved.
   * @param gradient `[rows, classes]` of the loss by the logits; taken over
   */
  backward(gradient: Tensor, { adapters, linears, inputs }: SavedClassifier): void {
    scope(() => {
      const lowest = this.groups.findIndex((group) => isTrained(group, adapters));
      let current: Tensor | null = lowest === -1 ? null : cast(gradient, this.dtype);
      for (let index = this.groups.length - 1; index >= lowest && current !== null; index--) {
        const byInput = linearBackward(this.groups[index]!, current, linears[index]!, adapters, index > lowest);
        const { activationGradient } = this.kernels.of(this.dtype);
        current = byInput && activationGradient(byInput, inputs[index - 1]!, this.architecture.activation);
      }
    });
    dispose([gradient, linears, inputs]);
  }

  /** Frees the weights. */
  dispose(): void {
    for (const { linear } of this.groups) linear.dispose();
  }
}
