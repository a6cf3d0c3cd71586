import type { DecoderArchitecture } from '@lorasmith/model-folder';
import {
  add,
  alias,
  cast,
  dispose,
  type FloatDType,
  gather,
  kernelsFor,
  matMul,
  onDevice,
  type RowSections,
  rowSections,
  scope,
  type Tensor,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import { expertsBackward, expertsForward, type SavedLinear, type SortedRows } from '../adapted-linear.js';
import type { ExpertGroups } from '../frozen-experts.js';
import type { LinearGroup } from '../frozen-linear.js';
import { isTrained } from '../pass.js';
import type { BlockContext, Sublayer } from './block.js';
import { mlpActivation, mlpActivationGradient } from './gated-mlp.js';
import type { Routing } from './routing.js';
import { type RoutingRule, type RoutingSettings, routingRuleOf } from './routing-rule.js';
import type { SavedSharedExpert, SharedExpert } from './shared-expert.js';
import { rowProducts, weightedRows } from './weighted-rows.js';

export interface SparseMlpWeights {
  /** `[experts, hidden]` float32 */
  router: Tensor;
  /** `[experts]`, of a router that scores by sigmoid; null: it scores by softmax */
  correction: Float32Array | null;
  /** hidden → 2 × intermediate: gate, then up */
  gateUp: ExpertGroups;
  /** intermediate → hidden */
  down: ExpertGroups;
  /** null: there is none */
  shared: SharedExpert | null;
}

/** The experts of each token, and as tensors what ops need of them. */
type Routed = {
  routing: Routing;
  /** `[rows]` int32 */
  tokens: Tensor;
  /** `[tokens × perToken]` int32 */
  places: Tensor;
  sections: RowSections;
  /** `[rows, 1]` float32 */
  weights: Tensor;
};

type SavedSparseMlp = {
  routed: Routed;
  gateUp: SavedLinear;
  /** `[rows, 2 × intermediate]` */
  gateUpOutput: Tensor;
  down: SavedLinear;
  shared: SavedSharedExpert | null;
};

/**
 * A mixture of experts: each token passes those that the router chooses, and its output is the sum of what they give, times the
 * router's weights. Their MLPs are computed as two products, over rows that are sorted by expert. A token's result does not depend on
 * the others.
 */
export class SparseMlp implements Sublayer<SavedSparseMlp> {
  readonly mixesTokens = false;
  readonly #settings: RoutingSettings;
  readonly #rule: RoutingRule;
  readonly #mlp: DecoderArchitecture['mlp'];
  readonly #weights: SparseMlpWeights;
  readonly groups: readonly LinearGroup[];

  constructor(settings: RoutingSettings, mlp: DecoderArchitecture['mlp'], weights: SparseMlpWeights) {
    this.#settings = settings;
    this.#rule = routingRuleOf(settings, weights.correction);
    this.#mlp = mlp;
    this.#weights = weights;
    this.groups = [...weights.gateUp.groups, ...weights.down.groups, ...(weights.shared?.groups ?? [])];
  }

  get computeDtype(): FloatDType {
    return this.#weights.gateUp.experts.computeDtype;
  }

  forward(x: Tensor, context: BlockContext): { output: Tensor; saved: SavedSparseMlp | null } {
    const { adapters, record } = context;
    const recording = record ? 'without-input' : 'none';
    const { shared } = this.#weights;
    const routed = this.#route(x);
    const rows = sortedRows(routed);
    const gateUp = expertsForward(this.#weights.gateUp, gather(x, routed.tokens), rows, adapters, recording); // [rows, 2 x intermediate]
    // Weighted before the last product, so that the gradient by a weight needs no output of an expert.
    const weighted = this.#weighted(gateUp.output, routed); // [rows, intermediate]
    const down = expertsForward(this.#weights.down, weighted, rows, adapters, recording); // [rows, hidden]
    const summed = kernelsFor(down.output.dtype).gatheredSum(down.output, routed.places, this.#settings.perToken);
    dispose(down.output);
    const ofShared = shared?.forward(alias(x), context) ?? null;
    dispose(x);
    const output = ofShared === null ? summed : add(summed, ofShared.output);
    if (ofShared !== null) dispose([summed, ofShared.output]);
    if (gateUp.saved === null || down.saved === null) {
      dispose([routed, gateUp.output]);
      return { output, saved: null };
    }
    const saved = { routed, gateUp: gateUp.saved, gateUpOutput: gateUp.output, down: down.saved };
    return { output, saved: { ...saved, shared: ofShared?.saved ?? null } };
  }

  /** The activated rows times their weights. */
  #weighted(gateUpOutput: Tensor, { weights }: Routed): Tensor {
    return scope(() => weightedRows(mlpActivation(gateUpOutput, this.#mlp), weights));
  }

  /** Reads the router's logits, in float32: the host decides which rows there are. */
  #route(x: Tensor): Routed {
    const logits = scope(() => toFloat32Array(matMul(cast(x, 'float32'), this.#weights.router, { transposeB: true }))); // [tokens x experts]
    const routing = this.#rule.route(logits);
    const indices = (values: Int32Array) => scope(() => onDevice(tensorOf(values, [values.length])));
    return {
      routing,
      tokens: indices(routing.tokens),
      places: indices(routing.places),
      sections: rowSections(routing.offsets),
      weights: tensorOf(routing.weights, [routing.weights.length, 1]),
    };
  }

  backward(
    gradient: Tensor,
    { shared, ...saved }: SavedSparseMlp,
    context: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null {
    const byShared =
      shared === null
        ? null
        : this.#weights.shared!.backward(alias(gradient), shared, context, wantInputGradient, inputAgain);
    const byExperts = this.#expertsBackward(gradient, saved, context, wantInputGradient, inputAgain);
    const byInput =
      byExperts === null
        ? null
        : scope(() => {
            const ofShared = byShared === null ? [] : [byShared];
            const parts = [byExperts.throughExperts, ...ofShared].map((part) => cast(part, 'float32'));
            return cast(parts.reduce(add, byExperts.throughRouter), gradient.dtype);
          });
    dispose([gradient, byShared, byExperts]);
    return byInput;
  }

  /**
   * Frees what was saved.
   * @returns through the router `[tokens, hidden]` float32, and through the experts; null when they are not wanted
   */
  #expertsBackward(
    gradient: Tensor,
    { routed, gateUp, gateUpOutput, down }: Omit<SavedSparseMlp, 'shared'>,
    { adapters }: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): { throughRouter: Tensor; throughExperts: Tensor } | null {
    const own = this.#weights;
    const rows = sortedRows(routed);
    const isAdapted = (groups: readonly LinearGroup[]) => groups.some((group) => isTrained(group, adapters));
    const wantGateUp = wantInputGradient || isAdapted(own.gateUp.groups);
    if (!wantGateUp && !isAdapted(own.down.groups)) {
      dispose([routed, gateUp, gateUpOutput, down]);
      return null;
    }
    const weightedAgain = () => this.#weighted(gateUpOutput, routed);
    const byOutputs = gather(gradient, routed.tokens); // [rows, hidden]
    const byWeighted = expertsBackward(own.down, byOutputs, down, rows, adapters, wantGateUp, weightedAgain);
    if (byWeighted === null) {
      dispose([routed, gateUp, gateUpOutput]);
      return null;
    }
    const throughRouter = wantInputGradient ? this.#routerBackward(byWeighted, gateUpOutput, routed) : null;
    const byActivated = weightedRows(byWeighted, routed.weights);
    dispose(byWeighted);
    const byGateUp = mlpActivationGradient(byActivated, gateUpOutput, this.#mlp);
    dispose([byActivated, gateUpOutput]);
    const rowsAgain = () => scope(() => gather(inputAgain(), routed.tokens));
    const byRows = expertsBackward(own.gateUp, byGateUp, gateUp, rows, adapters, wantInputGradient, rowsAgain); // [rows, hidden]
    if (byRows === null || throughRouter === null) {
      dispose(routed);
      return null;
    }
    const throughExperts = kernelsFor(byRows.dtype).gatheredSum(byRows, routed.places, this.#settings.perToken);
    dispose([byRows, routed]);
    return { throughRouter, throughExperts };
  }

  /**
   * The gradient by the input through the weights of the rows, the scores and the router's own weight.
   * @param byWeighted `[rows, intermediate]` by the weighted activation
   * @returns `[tokens, hidden]` float32
   */
  #routerBackward(byWeighted: Tensor, gateUpOutput: Tensor, { routing }: Routed): Tensor {
    const { count } = this.#settings;
    return scope(() => {
      const byWeights = rowProducts(byWeighted, mlpActivation(gateUpOutput, this.#mlp)); // [rows, 1]
      const byLogits = this.#rule.gradient(toFloat32Array(byWeights), routing);
      return matMul(tensorOf(byLogits, [byLogits.length / count, count]), this.#weights.router);
    });
  }

  dispose(): void {
    const { router, gateUp, down, shared } = this.#weights;
    router.dispose();
    gateUp.experts.dispose();
    down.experts.dispose();
    shared?.dispose();
  }
}

function sortedRows({ sections, routing }: Routed): SortedRows {
  return { sections, tokens: routing.tokens };
}
