import type { Experts } from '@lorasmith/model-folder';
import { add, cast, dispose, type KernelSet, scope, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import { isTrained, type Saved } from '../pass.js';
import type { BlockContext } from './block.js';
import {
  gradientByLogits,
  gradientBySigmoid,
  type Routing,
  routeBySigmoid,
  routeTokens,
  timesOfExperts,
} from './routing.js';
import { scaledBy } from './scaled-by.js';

/** The logits of experts, in float32 whatever the model's dtype: what rounds them makes different ones equal. */
export interface Router<Kept extends Saved = Saved> {
  readonly groups: readonly LinearGroup[];
  /**
   * @param x `[tokens, hidden]`
   * @returns logits `[tokens × experts]`
   */
  forward(x: Tensor, context: BlockContext): { logits: Float32Array; saved: Kept };
  isTrained(context: BlockContext): boolean;
  /**
   * Frees what was saved.
   * @param byLogits `[tokens × experts]`
   * @returns `[tokens, hidden]` float32 by x; null when it is not wanted
   */
  backward(
    byLogits: Float32Array,
    saved: Kept,
    context: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null;
  /** Frees the weights. */
  dispose(): void;
}

/** A router that no adapter acts at. */
export class FrozenRouter implements Router<null> {
  readonly groups = [];
  readonly #kernels: KernelSet;
  readonly #weight: Tensor;
  readonly #bias: Tensor | null;

  /**
   * Takes the tensors over.
   * @param weight `[experts, hidden]` float32
   * @param bias `[experts]` float32; null: there is none
   */
  constructor(kernels: KernelSet, weight: Tensor, bias: Tensor | null) {
    this.#kernels = kernels;
    this.#weight = weight;
    this.#bias = bias;
  }

  forward(x: Tensor): { logits: Float32Array; saved: null } {
    const logits = scope(() => {
      const products = this.#kernels.matMul(cast(x, 'float32'), this.#weight, { transposeB: true }); // [tokens x experts]
      return toFloat32Array(this.#bias === null ? products : add(products, this.#bias));
    });
    return { logits, saved: null };
  }

  isTrained(): boolean {
    return false;
  }

  backward(byLogits: Float32Array, _: null, __: BlockContext, wantInputGradient: boolean): Tensor | null {
    const [experts] = this.#weight.shape as [number, number];
    if (!wantInputGradient) return null;
    return scope(() => this.#kernels.matMul(tensorOf(byLogits, [byLogits.length / experts, experts]), this.#weight));
  }

  dispose(): void {
    dispose([this.#weight, this.#bias]);
  }
}

/** A router that is a linear layer of the normed stream times a factor of each number (Gemma 4); adapters may act at it. */
export class ScaledRouter implements Router<SavedLinear | null> {
  readonly #scale: Tensor;
  readonly #linear: LinearGroup;

  /**
   * @param scale `[hidden]` float32; taken over
   * @param linear hidden → experts, in float32
   */
  constructor(scale: Tensor, linear: LinearGroup) {
    this.#scale = scale;
    this.#linear = linear;
  }

  get groups(): readonly LinearGroup[] {
    return [this.#linear];
  }

  forward(x: Tensor, { adapters, record }: BlockContext): { logits: Float32Array; saved: SavedLinear | null } {
    const { output, saved } = linearForward(this.#linear, this.#scaled(x), adapters, record ? 'without-input' : 'none');
    const logits = toFloat32Array(output);
    dispose(output);
    return { logits, saved };
  }

  isTrained({ adapters }: BlockContext): boolean {
    return isTrained(this.#linear, adapters);
  }

  backward(
    byLogits: Float32Array,
    saved: SavedLinear | null,
    { adapters }: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null {
    const experts = this.#linear.linear.outFeatures;
    const gradient = tensorOf(byLogits, [byLogits.length / experts, experts]);
    const scaledAgain = () => scope(() => this.#scaled(inputAgain()));
    const byScaled = linearBackward(this.#linear, gradient, saved!, adapters, wantInputGradient, scaledAgain);
    if (byScaled === null) return null;
    const byInput = scaledBy(byScaled, this.#scale);
    dispose(byScaled);
    return byInput;
  }

  #scaled(x: Tensor): Tensor {
    return scope(() => scaledBy(cast(x, 'float32'), this.#scale));
  }

  dispose(): void {
    dispose(this.#scale);
    this.#linear.linear.dispose();
  }
}

/** Rule by which a router chooses experts and weighs them. */
export interface RoutingRule {
  /** @param logits `[tokens × experts]` */
  route(logits: Float32Array): Routing;
  /**
   * @param byWeights `[rows]`
   * @returns `[tokens × experts]`
   */
  gradient(byWeights: Float32Array, routing: Routing): Float32Array;
}

export type RoutingSettings = Pick<Experts, 'count' | 'perToken' | 'renormalized' | 'sigmoid'>;

/** A rule whose weights are multiplied by a factor of each expert. @param scales `[experts]` */
export function scaledRule(rule: RoutingRule, scales: Float32Array): RoutingRule {
  return {
    route(logits) {
      const routing = rule.route(logits);
      const { weights } = routing;
      return { ...routing, weights: timesOfExperts(weights, scales, routing), unscaled: weights };
    },
    gradient(byWeights, routing) {
      const unscaled = { ...routing, weights: routing.unscaled! };
      return rule.gradient(timesOfExperts(byWeights, scales, routing), unscaled);
    },
  };
}

/** @param correction `[experts]`; null where the router scores by softmax */
export function routingRuleOf({ sigmoid, ...settings }: RoutingSettings, correction: Float32Array | null): RoutingRule {
  if (sigmoid === undefined) {
    return {
      route: (logits) => routeTokens(logits, settings),
      gradient: (byWeights, routing) => gradientByLogits(byWeights, routing, settings),
    };
  }
  const own = { ...settings, sigmoid };
  return {
    route: (logits) => routeBySigmoid(logits, correction!, own),
    gradient: (byWeights, routing) => gradientBySigmoid(byWeights, routing, own),
  };
}
