import {
  type AttentionSettings,
  add,
  type BatchAttention,
  batchMatMul,
  cast,
  concat,
  constant,
  dispose,
  divide,
  exponential,
  type Kernels,
  max,
  maximum,
  multiply,
  type RotaryTable,
  reshape,
  rotaryTable,
  rotate,
  rowsOf,
  type SavedAttention,
  scope,
  slice,
  split,
  subtract,
  sum,
  type Tensor,
  tanh,
  tensorOf,
  toFloat32Array,
  transpose,
} from '../../packages/tensor/src/index.js';

// What the card's kernels of attention in bfloat16 compute, number by number (native/cuda/kernels/attention_*.cuh), from products in
// float32: the same roundings at the same places. It stands for a card where there is none, and can have errors on purpose.

/** An error of one of the kernels. Those of a tile, and of the last keys, are in rows of more than one tile alone. */
export const MUTANTS = [
  'forward: one tile of queries leaves a step of keys out',
  'forward: the window is larger by one',
  'forward: the window is smaller by one',
  'scores: the scale is left out',
  'forward: heads read the keys and values of another head',
  'forward: the last tile of queries sees one key more',
  'forward: the last tile of queries sees one key less',
  'forward: what is summed is not made smaller where a greater score is found',
  'forward: the sum of weights is not made smaller where a greater score is found',
  'forward: the last keys of a row have no values',
  'forward: sinks are left out',
  'scores: the cap is left out',
  'backward: delta is left out',
  'backward: delta is of the next query',
  'backward: the slope of the cap is left out',
  'by queries: one tile of queries leaves a step of keys out',
  'by queries: the window is larger by one',
  'by queries: the last tile of queries sees one key more',
  'by queries: the scale is left out',
  'by queries: it is not turned back',
  'by keys: one tile of keys leaves a step of queries out',
  'by keys: the window is smaller by one',
  'by keys: the last tile of keys sees one query less',
  'by keys: the scale is left out',
  'by keys: it is not turned back',
  'by keys: the last head of a key is left out',
  'by values: one tile of keys leaves a step of queries out',
  'by values: the window is smaller by one',
  'by values: the last tile of keys sees one query less',
  'by values: the last head of a key is left out',
] as const;

export type Mutant = (typeof MUTANTS)[number];

/** Less than any score. */
const NONE = -1e30;
/** Queries, or keys, of a tile that has an error. */
const TILE = 64;

type Rows = Pick<Parameters<Kernels['batchAttention']>[0], 'lengths' | 'angles'>;

type SavedRow = {
  query: Tensor;
  key: Tensor;
  value: Tensor;
  output: Tensor;
  logSums: Tensor;
};

export class CardAttention implements BatchAttention {
  readonly #lengths: readonly number[];
  readonly #rotary: RotaryTable;
  readonly #mutant: Mutant | null;

  constructor({ lengths, angles }: Rows, mutant: Mutant | null = null) {
    this.#lengths = lengths;
    this.#rotary = rotaryTable(angles);
    this.#mutant = mutant;
  }

  forward(qkv: Tensor, settings: AttentionSettings): { output: Tensor; saved: SavedAttention } {
    const rows = this.#rowsOf(qkv).map((row) => scope(() => this.#forwardRow(row, settings)));
    const outputs = rows.map(({ output }) => byToken(output));
    return { output: concat(outputs, 0), saved: rows };
  }

  backward(gradient: Tensor, saved: SavedAttention, settings: AttentionSettings): Tensor {
    const rows = saved as SavedRow[];
    const gradients = this.#rowsOf(gradient).map((row, index) =>
      scope(() => this.#backwardRow(row, rows[index]!, settings)),
    );
    dispose(saved);
    return concat(gradients, 0);
  }

  #rowsOf(stream: Tensor): Tensor[] {
    let first = 0;
    return this.#lengths.map((count) => {
      const row = rowsOf(stream, { first, count });
      first += count;
      return row;
    });
  }

  #is(mutant: Mutant): boolean {
    return this.#mutant === mutant;
  }

  /** @param qkv `[length, (heads + 2 keyValueHeads) headDim]` */
  #forwardRow(qkv: Tensor, settings: AttentionSettings): SavedRow {
    const { heads, keyValueHeads, headDim } = settings;
    const length = qkv.shape[0]!;
    const all = byHead(qkv, headDim);
    const [both, value] = split(all, [heads + keyValueHeads, keyValueHeads], 0);
    const [query, key] = split(this.#rotated(both!, 'forward'), [heads, keyValueHeads], 0);
    const exact = { query: float(query!), key: float(key!), value: float(value!) };
    const seen = maskOf(length, this.#seenInForward(length, settings));
    // [heads, length, length], as softmax takes them
    const read = this.#is('forward: heads read the keys and values of another head') ? otherHeads : (x: Tensor) => x;
    const scores = this.#scaled(product(exact.query, read(exact.key), heads, { transposeB: true }), settings);
    const noSinks = settings.sinks === undefined || this.#is('forward: sinks are left out');
    const start = noSinks ? tensorOf(new Float32Array(heads).fill(NONE), [heads]) : settings.sinks!;
    const ones = tensorOf(new Float32Array(heads * length).fill(1), [heads, length, 1]);
    let state = {
      greatest: multiply(reshape(start, [heads, 1, 1]), ones),
      total: multiply(ones, constant(noSinks ? 0 : 1)),
      sums: tensorOf(new Float32Array(heads * length * headDim), [heads, length, headDim]),
    };
    const step = headDim <= 64 ? 64 : 32;
    for (let first = 0; first < length; first += step) {
      const before = state;
      state = scope(() => {
        const keys = Math.min(step, length - first);
        const own = slice(scores, [0, 0, first], [-1, -1, keys]);
        const mask = slice(seen, [0, first], [-1, keys]);
        // A hidden score is NONE.
        const visible = add(multiply(own, mask), multiply(subtract(mask, constant(1)), constant(-NONE)));
        const greatest = maximum(before.greatest, max(visible, -1, { keepDims: true }));
        const shrink = exponential(subtract(before.greatest, greatest));
        const weights = multiply(exponential(subtract(visible, greatest)), mask);
        const shrunk = (x: Tensor, mutant: Mutant) => (this.#is(mutant) ? x : multiply(x, shrink));
        const total = shrunk(
          before.total,
          'forward: the sum of weights is not made smaller where a greater score is found',
        );
        const isLast =
          length > TILE && first + step >= length && this.#is('forward: the last keys of a row have no values');
        const values = multiply(slice(exact.value, [0, first, 0], [-1, keys, -1]), constant(isLast ? 0 : 1));
        const added = product(rounded(weights), read(values), heads);
        const sums = shrunk(before.sums, 'forward: what is summed is not made smaller where a greater score is found');
        return { greatest, total: add(total, sum(weights, -1, { keepDims: true })), sums: add(sums, added) };
      });
      dispose(before);
    }
    const output = cast(divide(state.sums, state.total), 'bfloat16');
    return { ...exact, output, logSums: add(state.greatest, logarithm(state.total)) };
  }

  /** @param gradient `[length, heads headDim]` → `[length, (heads + 2 keyValueHeads) headDim]` */
  #backwardRow(gradient: Tensor, saved: SavedRow, settings: AttentionSettings): Tensor {
    const { heads, keyValueHeads, headDim, scale, softcap } = settings;
    const length = gradient.shape[0]!;
    const { query, key, value } = saved;
    const byOutput = float(byHead(gradient, headDim)); // [heads, length, headDim]
    const scores = this.#scaled(product(query, key, heads, { transposeB: true }), settings);
    let delta = sum(multiply(byOutput, float(saved.output)), -1, { keepDims: true });
    if (this.#is('backward: delta is left out')) delta = multiply(delta, constant(0));
    if (this.#is('backward: delta is of the next query')) delta = nextOf(delta);
    const weightsAll = exponential(subtract(scores, saved.logSums));
    let byScoreAll = subtract(product(byOutput, value, heads, { transposeB: true }), delta);
    if (softcap !== null && !this.#is('backward: the slope of the cap is left out')) {
      const part = multiply(scores, constant(1 / softcap));
      byScoreAll = multiply(byScoreAll, subtract(constant(1), multiply(part, part)));
    }
    const seenBy = (part: Part) => maskOf(length, this.#seenInBackward(part, length, settings));
    // A score's gradient, without the scale.
    const byScore = (part: Part) => rounded(multiply(multiply(weightsAll, seenBy(part)), byScoreAll));
    const weights = rounded(multiply(weightsAll, seenBy('by values')));
    const perKey = heads / keyValueHeads;
    // [heads, length, headDim] of each query head → the sum of a key head's
    const summed = (x: Tensor, mutant: Mutant) => {
      const byKey = reshape(x, [keyValueHeads, perKey, length, headDim]);
      return sum(this.#is(mutant) && perKey > 1 ? slice(byKey, [0, 0, 0, 0], [-1, perKey - 1, -1, -1]) : byKey, 1);
    };
    const scaledBy = (x: Tensor, mutant: Mutant) => multiply(x, constant(this.#is(mutant) ? 1 : scale));
    const turned = (x: Tensor, mutant: Mutant) => (this.#is(mutant) ? x : this.#turnedBack(x));
    const byQuery = scaledBy(product(byScore('by queries'), key, heads), 'by queries: the scale is left out');
    const ofKeys = batchMatMul(byScore('by keys'), query, { transposeA: true });
    const byKey = scaledBy(
      summed(ofKeys, 'by keys: the last head of a key is left out'),
      'by keys: the scale is left out',
    );
    const ofValues = batchMatMul(weights, byOutput, { transposeA: true });
    const byValue = summed(ofValues, 'by values: the last head of a key is left out');
    const parts = [
      turned(byQuery, 'by queries: it is not turned back'),
      turned(byKey, 'by keys: it is not turned back'),
      byValue,
    ];
    return byToken(cast(concat(parts, 0), 'bfloat16'));
  }

  /** Scores as softmax takes them. */
  #scaled(scores: Tensor, { scale, softcap }: AttentionSettings): Tensor {
    const scaled = multiply(scores, constant(this.#is('scores: the scale is left out') ? 1 : scale));
    if (softcap === null || this.#is('scores: the cap is left out')) return scaled;
    return multiply(tanh(multiply(scaled, constant(1 / softcap))), constant(softcap));
  }

  /** @param x `[heads, length, headDim]` */
  #rotated(x: Tensor, direction: 'forward' | 'inverse'): Tensor {
    const part = (table: Tensor) => rowsOf(table, { first: 0, count: x.shape[1]! });
    const { cosine, sine, inverseSine } = this.#rotary;
    return rotate(x, { cosine: part(cosine), sine: part(sine), inverseSine: part(inverseSine) }, direction);
  }

  #turnedBack(x: Tensor): Tensor {
    return this.#rotated(x, 'inverse');
  }

  #seenInForward(length: number, { window }: AttentionSettings): Sees {
    const larger = this.#is('forward: the window is larger by one') ? 1 : 0;
    const smaller = this.#is('forward: the window is smaller by one') ? 1 : 0;
    const sees = causal(window === null ? null : window + larger - smaller);
    if (length <= TILE) return sees;
    const lastTile = Math.floor((length - 1) / TILE) * TILE;
    if (this.#is('forward: one tile of queries leaves a step of keys out')) return withoutStep(sees, lastTile);
    if (this.#is('forward: the last tile of queries sees one key more')) return shifted(sees, lastTile, 1);
    if (this.#is('forward: the last tile of queries sees one key less')) return shifted(sees, lastTile, -1);
    return sees;
  }

  #seenInBackward(part: Part, length: number, { window }: AttentionSettings): Sees {
    const larger = part === 'by queries' && this.#is(`${part}: the window is larger by one`) ? 1 : 0;
    const smaller = part !== 'by queries' && this.#is(`${part}: the window is smaller by one`) ? 1 : 0;
    const sees = causal(window === null ? null : window + larger - smaller);
    if (length <= TILE) return sees;
    const lastTile = Math.floor((length - 1) / TILE) * TILE;
    if (part === 'by queries') {
      if (this.#is('by queries: one tile of queries leaves a step of keys out')) return withoutStep(sees, lastTile);
      if (this.#is('by queries: the last tile of queries sees one key more')) return shifted(sees, lastTile, 1);
      return sees;
    }
    // A step of queries in the middle of the row is left out by its first keys.
    const middle = Math.floor(length / 2 / 32) * 32;
    if (this.#is(`${part}: one tile of keys leaves a step of queries out`))
      return (query, key) => sees(query, key) && !(key < TILE && query >= middle && query < middle + 32);
    if (this.#is(`${part}: the last tile of keys sees one query less`))
      return (query, key) => sees(query, key) && !(key >= lastTile && query === key);
    return sees;
  }
}

type Part = 'by queries' | 'by keys' | 'by values';
type Sees = (query: number, key: number) => boolean;

const causal =
  (window: number | null): Sees =>
  (query, key) =>
    key <= query && (window === null || key > query - window);

/** The queries from `first` on see one key more or less at the diagonal. */
const shifted =
  (sees: Sees, first: number, by: 1 | -1): Sees =>
  (query, key) =>
    query >= first
      ? sees(query, by === 1 && key === query + 1 ? query : key) && !(by === -1 && key === query)
      : sees(query, key);

/** The queries from `first` on do not see the 32 keys that are 64 to 95 before them. */
const withoutStep =
  (sees: Sees, first: number): Sees =>
  (query, key) =>
    sees(query, key) && !(query >= first && key >= first - 96 && key < first - 64);

/** `[length, length]`: 1 where a query sees a key. */
function maskOf(length: number, sees: Sees): Tensor {
  const mask = new Float32Array(length * length);
  for (let query = 0; query < length; query++) {
    for (let key = 0; key < length; key++) if (sees(query, key)) mask[query * length + key] = 1;
  }
  return tensorOf(mask, [length, length]);
}

const float = (x: Tensor) => cast(x, 'float32');
const rounded = (x: Tensor) => float(cast(x, 'bfloat16'));

/** `[length, heads headDim]` → `[heads, length, headDim]`. */
function byHead(x: Tensor, headDim: number): Tensor {
  const [length = 0, width = 0] = x.shape;
  return transpose(reshape(x, [length, width / headDim, headDim]), [1, 0, 2]);
}

function byToken(x: Tensor): Tensor {
  const [heads = 0, length = 0, headDim = 0] = x.shape;
  return reshape(transpose(x, [1, 0, 2]), [length, heads * headDim]);
}

/**
 * A product of each query head with the matrix of its key head.
 * @param a `[heads, m, k]`
 * @param b `[keyValueHeads, k, n]`, or `[keyValueHeads, n, k]`
 */
function product(a: Tensor, b: Tensor, heads: number, options: { transposeB?: boolean } = {}): Tensor {
  const [, m = 0, k = 0] = a.shape;
  const keyHeads = b.shape[0]!;
  const grouped = batchMatMul(reshape(a, [keyHeads, (heads / keyHeads) * m, k]), b, options);
  return reshape(grouped, [heads, m, grouped.shape[2]!]);
}

/** Heads in another order. */
const otherHeads = (x: Tensor) => concat(split(x, [1, x.shape[0]! - 1], 0).reverse(), 0);

const logarithm = (x: Tensor) => tensorOf(toFloat32Array(x).map(Math.log), x.shape);

/** `[heads, length, 1]`: each query's number from the next one. */
function nextOf(x: Tensor): Tensor {
  const length = x.shape[1]!;
  if (length === 1) return x;
  const [first, others] = split(x, [1, length - 1], 1);
  return concat([others!, first!], 1);
}
