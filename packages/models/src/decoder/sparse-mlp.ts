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
import type { FrozenExperts } from '../frozen-experts.js';
import type { LinearGroup } from '../frozen-linear.js';
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
  gateUp: FrozenExperts;
  /** intermediate → hidden */
  down: FrozenExperts;
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
  /** `[rows, 2 × intermediate]` */
  gateUpOutput: Tensor;
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

  constructor(settings: RoutingSettings, mlp: DecoderArchitecture['mlp'], weights: SparseMlpWeights) {
    this.#settings = settings;
    this.#rule = routingRuleOf(settings, weights.correction);
    this.#mlp = mlp;
    this.#weights = weights;
  }

  get groups(): readonly LinearGroup[] {
    return this.#weights.shared?.groups ?? [];
  }

  get computeDtype(): FloatDType {
    return this.#weights.gateUp.computeDtype;
  }

  forward(x: Tensor, context: BlockContext): { output: Tensor; saved: SavedSparseMlp | null } {
    const { gateUp, down, shared } = this.#weights;
    const { gatheredSum } = kernelsFor(x.dtype);
    const routed = this.#route(x);
    const { tokens, places, sections, weights } = routed;
    const sparse = scope(() => {
      const rows = gather(x, tokens); // [rows, hidden]
      const gateUpOutput = gateUp.forward(rows, sections); // [rows, 2 x intermediate]
      dispose(rows);
      const activated = mlpActivation(gateUpOutput, this.#mlp); // [rows, intermediate]
      // Weighted before the last product, so that the gradient by a weight needs no output of an expert.
      const weighted = weightedRows(activated, weights);
      dispose(activated);
      const outputs = down.forward(weighted, sections); // [rows, hidden]
      return { output: gatheredSum(outputs, places, this.#settings.perToken), gateUpOutput };
    });
    const ofShared = shared?.forward(alias(x), context) ?? null;
    dispose(x);
    const output = ofShared === null ? sparse.output : add(sparse.output, ofShared.output);
    if (ofShared !== null) dispose([sparse.output, ofShared.output]);
    if (context.record) {
      return { output, saved: { routed, gateUpOutput: sparse.gateUpOutput, shared: ofShared?.saved ?? null } };
    }
    dispose([routed, sparse.gateUpOutput]);
    return { output, saved: null };
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
    { routed, gateUpOutput, shared }: SavedSparseMlp,
    context: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null {
    const byShared =
      shared === null
        ? null
        : this.#weights.shared!.backward(alias(gradient), shared, context, wantInputGradient, inputAgain);
    const byInput = wantInputGradient ? this.#gradientByInput(gradient, routed, gateUpOutput, byShared) : null;
    dispose([gradient, routed, gateUpOutput, byShared]);
    return byInput;
  }

  /** The gradient by x: through the experts, through the router, and what came through the shared expert. */
  #gradientByInput(gradient: Tensor, routed: Routed, gateUpOutput: Tensor, byShared: Tensor | null): Tensor {
    const { gateUp, down, router } = this.#weights;
    const { routing, tokens, places, sections, weights } = routed;
    return scope(() => {
      const byOutputs = gather(gradient, tokens); // [rows, hidden]
      const byWeighted = down.backwardInput(byOutputs, sections); // [rows, intermediate]
      dispose(byOutputs);
      const activated = mlpActivation(gateUpOutput, this.#mlp);
      const byWeights = rowProducts(byWeighted, activated); // [rows, 1]
      dispose(activated);
      const byActivated = weightedRows(byWeighted, weights);
      dispose(byWeighted);
      const byGateUp = mlpActivationGradient(byActivated, gateUpOutput, this.#mlp);
      dispose(byActivated);
      const byRows = gateUp.backwardInput(byGateUp, sections); // [rows, hidden]
      dispose(byGateUp);
      const throughExperts = kernelsFor(gradient.dtype).gatheredSum(byRows, places, this.#settings.perToken);
      dispose(byRows);
      const byLogits = this.#rule.gradient(toFloat32Array(byWeights), routing);
      const { count } = this.#settings;
      const throughRouter = matMul(tensorOf(byLogits, [byLogits.length / count, count]), router); // [tokens, hidden] float32
      const parts = [throughExperts, ...(byShared === null ? [] : [byShared])];
      const sum = parts.reduce((all, part) => add(all, cast(part, 'float32')), throughRouter);
      return cast(sum, gradient.dtype);
    });
  }

  dispose(): void {
    const { router, gateUp, down, shared } = this.#weights;
    router.dispose();
    gateUp.dispose();
    down.dispose();
    shared?.dispose();
  }
}
