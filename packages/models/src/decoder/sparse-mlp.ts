import type { DecoderArchitecture } from '@lorasmith/model-folder';
import {
  add,
  alias,
  cast,
  dispose,
  type FloatDType,
  gather,
  type KernelSet,
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
import { isTrained, type Saved } from '../pass.js';
import type { BlockContext, Sublayer } from './block.js';
import { mlpActivation, mlpActivationGradient, type SavedSharedExpert, type SharedExpert } from './feed-forward.js';
import { type Router, type RoutingRule, type RoutingSettings, routingRuleOf, scaledRule } from './router.js';
import type { Routing } from './routing.js';
import { rowProducts, scaledBy, weightedRows } from './scaled-by.js';

/** The biases of experts. */
export type ExpertBiases = {
  /** `[experts, 2 × intermediate]` in the type that the experts compute in */
  gateUp: Tensor;
  /** `[experts, hidden]` float32 */
  down: Tensor;
};

export interface SparseMlpWeights {
  router: Router;
  /** null: there are none */
  biases: ExpertBiases | null;
  /** `[experts]`, of a router that scores by sigmoid; null: it scores by softmax */
  correction: Float32Array | null;
  /** `[experts]`: the factors of their weights; null: they have none */
  expertScales: Float32Array | null;
  /** `[hidden]` float32: the factors of what the experts read; null: they read what the router does */
  inputScale: Tensor | null;
  /** hidden → 2 × intermediate: gate, then up; or as the unit has them */
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
  /** The weight of each expert, zero where the token does not pass it, `[tokens, experts]` float32; null without biases. */
  ofExperts: Tensor | null;
};

type SavedSparseMlp = {
  routed: Routed;
  router: Saved;
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
    const rule = routingRuleOf(settings, weights.correction);
    this.#rule = weights.expertScales === null ? rule : scaledRule(rule, weights.expertScales);
    this.#mlp = mlp;
    this.#weights = weights;
    const { router, gateUp, down, shared } = weights;
    this.groups = [...gateUp.groups, ...down.groups, ...(shared?.groups ?? []), ...router.groups];
  }

  get computeDtype(): FloatDType {
    return this.#weights.gateUp.experts.computeDtype;
  }

  get #kernels(): KernelSet {
    return this.#weights.gateUp.experts.kernels;
  }

  forward(x: Tensor, context: BlockContext): { output: Tensor; saved: SavedSparseMlp | null } {
    const { adapters, record } = context;
    const recording = record ? 'without-input' : 'none';
    const { shared } = this.#weights;
    const { routed, router } = this.#route(x, context);
    const rows = sortedRows(routed);
    const gateUp = expertsForward(this.#weights.gateUp, this.#gathered(x, routed), rows, adapters, recording); // [rows, 2 x intermediate]
    const gateUpOutput = this.#withGateUpBias(gateUp.output, routed);
    // Weighted before the last product, so that the gradient by a weight needs no output of an expert.
    const weighted = this.#weighted(gateUpOutput, routed); // [rows, intermediate]
    const down = expertsForward(this.#weights.down, weighted, rows, adapters, recording); // [rows, hidden]
    const summed = this.#summed(down.output, routed);
    dispose(down.output);
    const ofShared = shared?.forward(alias(x), context) ?? null;
    dispose(x);
    const output = ofShared === null ? summed : add(summed, ofShared.output);
    if (ofShared !== null) dispose([summed, ofShared.output]);
    if (gateUp.saved === null || down.saved === null) {
      dispose([routed, router, gateUpOutput]);
      return { output, saved: null };
    }
    const saved = { routed, router, gateUp: gateUp.saved, gateUpOutput, down: down.saved };
    return { output, saved: { ...saved, shared: ofShared?.saved ?? null } };
  }

  /** Each row with the bias of its expert. Takes the rows over. */
  #withGateUpBias(rows: Tensor, { routing }: Routed): Tensor {
    const { biases } = this.#weights;
    if (biases === null) return rows;
    const sum = scope(() => {
      const experts = expertsOfRows(routing);
      return add(rows, gather(biases.gateUp, onDevice(tensorOf(experts, [experts.length]))));
    });
    rows.dispose();
    return sum;
  }

  /** The sums of the rows of each token, with the biases of its experts times their weights. */
  #summed(outputs: Tensor, { places, ofExperts }: Routed): Tensor {
    return scope(() => {
      const sums = this.#kernels.of(outputs.dtype).gatheredSum(outputs, places, this.#settings.perToken); // [tokens, hidden]
      if (ofExperts === null) return sums;
      const weighted = this.#kernels.matMul(ofExperts, this.#weights.biases!.down);
      return cast(add(cast(sums, 'float32'), weighted), outputs.dtype);
    });
  }

  /** The activated rows times their weights. */
  #weighted(gateUpOutput: Tensor, { weights }: Routed): Tensor {
    return scope(() => weightedRows(mlpActivation(this.#kernels, gateUpOutput, this.#mlp), weights));
  }

  /** The rows that experts read. */
  #gathered(x: Tensor, { tokens }: Routed): Tensor {
    const { inputScale } = this.#weights;
    return scope(() => gather(inputScale === null ? x : scaledBy(x, inputScale), tokens));
  }

  /** Reads the router's logits: the host decides which rows there are. */
  #route(x: Tensor, context: BlockContext): { routed: Routed; router: Saved } {
    const { logits, saved } = this.#weights.router.forward(x, context);
    const routing = this.#rule.route(logits);
    const { count } = this.#settings;
    const { biases } = this.#weights;
    const indices = (values: Int32Array) => scope(() => onDevice(tensorOf(values, [values.length])));
    const routed = {
      routing,
      tokens: indices(routing.tokens),
      places: indices(routing.places),
      sections: rowSections(routing.offsets),
      weights: tensorOf(routing.weights, [routing.weights.length, 1]),
      ofExperts: biases && tensorOf(weightsOfExperts(routing, this.#settings), [logits.length / count, count]),
    };
    return { routed, router: saved };
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
            const { inputScale } = this.#weights;
            const ofShared = byShared === null ? [] : [byShared];
            const ofExperts = cast(byExperts.throughExperts, 'float32');
            const parts = [
              inputScale === null ? ofExperts : scaledBy(ofExperts, inputScale),
              ...ofShared.map((part) => cast(part, 'float32')),
            ];
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
    { routed, router, gateUp, gateUpOutput, down }: Omit<SavedSparseMlp, 'shared'>,
    context: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): { throughRouter: Tensor; throughExperts: Tensor } | null {
    const own = this.#weights;
    const { adapters } = context;
    const rows = sortedRows(routed);
    const isAdapted = (groups: readonly LinearGroup[]) => groups.some((group) => isTrained(group, adapters));
    const wantRouter = wantInputGradient || own.router.isTrained(context);
    const wantGateUp = wantInputGradient || isAdapted(own.gateUp.groups);
    const wantWeighted = wantRouter || wantGateUp;
    if (!wantWeighted && !isAdapted(own.down.groups)) {
      dispose([routed, router, gateUp, gateUpOutput, down]);
      return null;
    }
    const weightedAgain = () => this.#weighted(gateUpOutput, routed);
    const byOutputs = gather(gradient, routed.tokens); // [rows, hidden]
    const byWeighted = expertsBackward(own.down, byOutputs, down, rows, adapters, wantWeighted, weightedAgain);
    if (byWeighted === null) {
      dispose([routed, router, gateUp, gateUpOutput]);
      return null;
    }
    let throughRouter: Tensor | null = null;
    if (wantRouter) {
      const byLogits = this.#gradientByLogits(gradient, byWeighted, gateUpOutput, routed);
      throughRouter = own.router.backward(byLogits, router, context, wantInputGradient, inputAgain);
    } else {
      dispose(router);
    }
    if (!wantGateUp) {
      dispose([routed, byWeighted, gateUp, gateUpOutput]);
      return null;
    }
    const byActivated = weightedRows(byWeighted, routed.weights);
    dispose(byWeighted);
    const byGateUp = mlpActivationGradient(this.#kernels, byActivated, gateUpOutput, this.#mlp);
    dispose([byActivated, gateUpOutput]);
    const rowsAgain = () => scope(() => this.#gathered(inputAgain(), routed));
    const byRows = expertsBackward(own.gateUp, byGateUp, gateUp, rows, adapters, wantInputGradient, rowsAgain); // [rows, hidden]
    if (byRows === null || throughRouter === null) {
      dispose(routed);
      return null;
    }
    const throughExperts = this.#kernels.of(byRows.dtype).gatheredSum(byRows, routed.places, this.#settings.perToken);
    dispose([byRows, routed]);
    return { throughRouter, throughExperts };
  }

  /**
   * The gradient by the router's logits, through the weights of the rows and the scores.
   * @param gradient `[tokens, hidden]` by the sums
   * @param byWeighted `[rows, intermediate]` by the weighted activation
   * @returns `[tokens × experts]`
   */
  #gradientByLogits(gradient: Tensor, byWeighted: Tensor, gateUpOutput: Tensor, { routing }: Routed): Float32Array {
    const { count, perToken } = this.#settings;
    const { biases } = this.#weights;
    return scope(() => {
      const byWeights = toFloat32Array(rowProducts(byWeighted, mlpActivation(this.#kernels, gateUpOutput, this.#mlp))); // [rows]
      if (biases !== null) {
        const byBiases = toFloat32Array(
          this.#kernels.matMul(cast(gradient, 'float32'), biases.down, { transposeB: true }),
        ); // [tokens x experts]
        for (const [choice, expert] of routing.experts.entries())
          byWeights[routing.places[choice]!]! += byBiases[Math.floor(choice / perToken) * count + expert]!;
      }
      return this.#rule.gradient(byWeights, routing);
    });
  }

  dispose(): void {
    const { router, biases, inputScale, gateUp, down, shared } = this.#weights;
    router.dispose();
    dispose([biases, inputScale]);
    gateUp.experts.dispose();
    down.experts.dispose();
    shared?.dispose();
  }
}

/** The expert of each row. */
function expertsOfRows({ offsets, tokens }: Routing): Int32Array<ArrayBuffer> {
  const experts = new Int32Array(tokens.length);
  for (let expert = 0; expert + 1 < offsets.length; expert++)
    experts.fill(expert, offsets[expert], offsets[expert + 1]);
  return experts;
}

/** The weight of each expert for each token, zero where the token does not pass it, `[tokens × experts]`. */
function weightsOfExperts(
  { experts, places, weights }: Routing,
  { count, perToken }: RoutingSettings,
): Float32Array<ArrayBuffer> {
  const all = new Float32Array((experts.length / perToken) * count);
  for (const [choice, expert] of experts.entries())
    all[Math.floor(choice / perToken) * count + expert] = weights[places[choice]!]!;
  return all;
}

function sortedRows({ sections, routing }: Routed): SortedRows {
  return { sections, tokens: routing.tokens };
}
