import { concat, dispose, scope, slice, type Tensor } from '@lorasmith/tensor';
import type { LinearGroup } from './frozen-linear.js';
import type { ActingAdapter, DropoutSeed, GroupAdapter, Saved, TokenRange } from './pass.js';

/** What a linear group keeps: what each adapter that acts at it saved, in their order. */
export type SavedLinear = readonly Saved[];

interface ActingHere {
  adapter: GroupAdapter;
  tokens: TokenRange | undefined;
  dropoutSeed: DropoutSeed | null;
}

function actingAt(group: LinearGroup, adapters: readonly ActingAdapter[]): ActingHere[] {
  return adapters.flatMap(({ adapter, tokens, dropoutSeed = null }) => {
    const here = tokens?.count === 0 ? null : adapter.at(group);
    return here === null ? [] : [{ adapter: here, tokens, dropoutSeed }];
  });
}

/**
 * A linear group with the adapters that act at it.
 * @param x `[tokens, in]`; taken over
 * @returns output `[tokens, out]`; saved is null without `record`
 */
export function linearForward(
  group: LinearGroup,
  x: Tensor,
  adapters: readonly ActingAdapter[],
  record: boolean,
): { output: Tensor; saved: SavedLinear | null } {
  const acting = actingAt(group, adapters);
  const [only] = acting;
  if (only === undefined) {
    const output = group.linear.forward(x);
    dispose(x);
    return { output, saved: record ? [] : null };
  }
  if (only.tokens === undefined) {
    const base = () => group.linear.forward(x);
    const { output, saved } = only.adapter.forward(x, base, { record, dropoutSeed: only.dropoutSeed });
    return { output, saved: record ? [saved] : null };
  }
  // One product with the base for all tokens; each adapter then computes its own.
  const base = group.linear.forward(x);
  const saved: Saved[] = [];
  const output = byTokens(base, acting, ({ adapter, dropoutSeed }, rowsOf) => {
    const result = adapter.forward(rowsOf(x), () => rowsOf(base), { record, dropoutSeed });
    saved.push(result.saved);
    return result.output;
  });
  dispose([x, base]);
  return { output, saved: record ? saved : null };
}

/**
 * Gradient of {@link linearForward}. Takes `gradient` over and frees what was saved.
 * @param gradient `[tokens, out]`
 * @returns `[tokens, in]`; null when it is not wanted
 */
export function linearBackward(
  group: LinearGroup,
  gradient: Tensor,
  saved: SavedLinear,
  adapters: readonly ActingAdapter[],
  wantInputGradient: boolean,
): Tensor | null {
  const acting = actingAt(group, adapters);
  const [only] = acting;
  let result: Tensor | null;
  if (only === undefined) {
    result = wantInputGradient ? group.linear.backwardInput(gradient) : null;
  } else if (only.tokens === undefined) {
    const base = () => group.linear.backwardInput(gradient);
    result = only.adapter.backward(gradient, base, saved[0]!, wantInputGradient);
  } else {
    const base = wantInputGradient ? group.linear.backwardInput(gradient) : null;
    const backward = ({ adapter }: ActingHere, rowsOf: (x: Tensor) => Tensor, index: number) => {
      const own = rowsOf(gradient);
      const byInput = adapter.backward(own, () => rowsOf(base!), saved[index]!, wantInputGradient);
      dispose(own);
      return byInput;
    };
    if (base === null) for (const [index, one] of acting.entries()) backward(one, rowsIn(one.tokens!), index);
    result = base && byTokens(base, acting, (one, rowsOf, index) => backward(one, rowsOf, index)!);
    dispose(base);
  }
  dispose([gradient, saved]);
  return result;
}

const rowsIn =
  ({ first, count }: TokenRange) =>
  (x: Tensor): Tensor =>
    slice(x, [first, 0], [count, -1]);

/** A stream of which each adapter computes its own tokens; the others are as they are in `base`. */
function byTokens(
  base: Tensor,
  acting: readonly ActingHere[],
  compute: (one: ActingHere, rowsOf: (x: Tensor) => Tensor, index: number) => Tensor,
): Tensor {
  const pieces: Tensor[] = [];
  let next = 0;
  const copyTo = (end: number) => {
    if (end > next) pieces.push(rowsIn({ first: next, count: end - next })(base));
  };
  for (const [index, one] of acting.entries()) {
    const { first, count } = one.tokens!;
    copyTo(first);
    pieces.push(compute(one, rowsIn({ first, count }), index));
    next = first + count;
  }
  copyTo(base.shape[0]!);
  const whole = scope(() => concat(pieces, 0));
  dispose(pieces);
  return whole;
}
