import {
  concat,
  dispose,
  isAdaptedAlone,
  type KernelSet,
  type RowSections,
  replaceRows,
  rowsOf,
  scope,
  type Tensor,
} from '@lorasmith/tensor';
import type { ExpertGroups } from './frozen-experts.js';
import type { AdaptedLinear, LinearGroup } from './frozen-linear.js';
import type { ActingAdapter, DropoutSeed, GroupAdapter, LowRankAdapter, Saved, TokenRange } from './pass.js';

/** The tensors that a linear group keeps for its backward pass. */
export type SavedLinear = {
  lowRank: SavedLowRank | null;
  /** The saved tensors of the other adapters that act here, in their order. */
  others: readonly Saved[];
};

type SavedLowRank = {
  /** `[tokens of the low-rank adapters, in]`; null where the backward pass is given the input again */
  x: Tensor | null;
  low: Tensor[];
};

/** The tensors that a forward pass keeps: none; all that the backward pass needs; or all but the input, which that is given again. */
export type Recording = 'none' | 'all' | 'without-input';

interface ActingHere {
  adapter: GroupAdapter;
  tokens: TokenRange;
  dropoutSeed: DropoutSeed | null;
}

type LowRankHere = ActingHere & { lowRank: LowRankAdapter };

interface Acting {
  lowRank: readonly LowRankHere[];
  others: readonly ActingHere[];
  /** One that is not low-rank and acts on all tokens: what the frozen layers compute is for it to ask for. */
  alone: ActingHere | null;
}

function actingAt(group: LinearGroup, adapters: readonly ActingAdapter[], count: number): Acting {
  const lowRank: LowRankHere[] = [];
  const others: ActingHere[] = [];
  for (const { adapter, tokens = { first: 0, count }, dropoutSeed = null } of adapters) {
    const here = tokens.count === 0 ? null : adapter.at(group);
    if (here === null) continue;
    const one = { adapter: here, tokens, dropoutSeed };
    if (here.lowRank === undefined) others.push(one);
    else lowRank.push({ ...one, lowRank: here.lowRank });
  }
  const [only] = others;
  return { lowRank, others, alone: only !== undefined && only.tokens.count === count ? only : null };
}

/**
 * The adapters that act at experts, on rows that are sorted by expert and then by token: an adapter's tokens are neighbours within
 * each expert.
 */
function actingAtExperts(
  { groups }: ExpertGroups,
  { sections: { offsets }, tokens }: SortedRows,
  adapters: readonly ActingAdapter[],
): Acting {
  const lowRank: LowRankHere[] = [];
  const others: ActingHere[] = [];
  for (const [expert, group] of groups.entries()) {
    const [first, end] = [offsets[expert]!, offsets[expert + 1]!];
    let next = first;
    for (const { adapter, tokens: own, dropoutSeed = null } of adapters) {
      const [firstToken, endToken] = own === undefined ? [0, Infinity] : [own.first, own.first + own.count];
      while (next < end && tokens[next]! < firstToken) next++;
      const begin = next;
      while (next < end && tokens[next]! < endToken) next++;
      const here = next === begin ? null : adapter.at(group);
      if (here === null) continue;
      const one = { adapter: here, tokens: { first: begin, count: next - begin }, dropoutSeed };
      if (here.lowRank === undefined) others.push(one);
      else lowRank.push({ ...one, lowRank: here.lowRank });
    }
  }
  return { lowRank, others, alone: null };
}

/** Rows of tokens that are sorted by expert, then by token. */
export interface SortedRows {
  sections: RowSections;
  /** `[rows]`: the token of each */
  tokens: Int32Array;
}

/**
 * Experts with the adapters that act at them, as {@link linearForward}.
 * @param x `[rows, in]`; taken over
 */
export function expertsForward(
  experts: ExpertGroups,
  x: Tensor,
  rows: SortedRows,
  adapters: readonly ActingAdapter[],
  recording: Recording,
): { output: Tensor; saved: SavedLinear | null } {
  const base = () => experts.experts.forward(x, rows.sections);
  const { kernels } = experts.experts;
  return adaptedForward({ kernels, base, joint: null }, x, actingAtExperts(experts, rows, adapters), recording);
}

/** Gradient of {@link expertsForward}, as {@link linearBackward}. */
export function expertsBackward(
  experts: ExpertGroups,
  gradient: Tensor,
  saved: SavedLinear,
  rows: SortedRows,
  adapters: readonly ActingAdapter[],
  wantInputGradient: boolean,
  inputAgain: () => Tensor,
): Tensor | null {
  const base = () => experts.experts.backwardInput(gradient, rows.sections);
  const acting = actingAtExperts(experts, rows, adapters);
  const frozen = { kernels: experts.experts.kernels, base, joint: null };
  return adaptedBackward(frozen, gradient, saved, acting, wantInputGradient, inputAgain);
}

/**
 * A linear group with the adapters that act at it: one product with the base for all tokens, then each adapter on its own.
 * @param x `[tokens, in]`; taken over
 * @returns output `[tokens, out]`; saved is null where nothing is recorded
 */
export function linearForward(
  group: LinearGroup,
  x: Tensor,
  adapters: readonly ActingAdapter[],
  recording: Recording,
): { output: Tensor; saved: SavedLinear | null } {
  const { linear } = group;
  const acting = actingAt(group, adapters, x.shape[0]!);
  const frozen = { kernels: linear.kernels, base: () => linear.forward(x), joint: linear.adapted ?? null };
  return adaptedForward(frozen, x, acting, recording);
}

/** The frozen layers next to adapters, in one direction of a pass. */
interface FrozenPass {
  kernels: KernelSet;
  /** Their output, or the gradient by their input. */
  base(): Tensor;
  /** See FrozenLinear. */
  joint: AdaptedLinear | null;
}

function adaptedForward(
  { kernels, base, joint }: FrozenPass,
  x: Tensor,
  { lowRank, others, alone }: Acting,
  recording: Recording,
): { output: Tensor; saved: SavedLinear | null } {
  const record = recording !== 'none';
  if (alone !== null) {
    const { output, saved } = alone.adapter.forward(x, base, { record, dropoutSeed: alone.dropoutSeed });
    return { output, saved: record ? { lowRank: null, others: [saved] } : null };
  }
  const result = scope(() => {
    const saved: { lowRank: SavedLowRank | null; others: Saved[] } = { lowRank: null, others: [] };
    const parts = partsOf(lowRank);
    const { output: adapted, low } =
      joint !== null && isAdaptedAlone(parts, x.shape[0]!)
        ? joint.forward(x, parts[0]!)
        : parts.length > 0
          ? kernels.of(x.dtype).loraForward(base(), x, parts)
          : { output: base(), low: [] };
    let output = adapted;
    if (record && parts.length > 0) saved.lowRank = { x: recording === 'all' ? ownRows(x, lowRank) : null, low };
    if (others.length > 0) {
      output = replaceRows(output, rangesOf(others), (ofFrozen, index) => {
        const { adapter, tokens, dropoutSeed } = others[index]!;
        const own = adapter.forward(rowsOf(x, tokens), () => ofFrozen, { record, dropoutSeed });
        if (record) saved.others.push(own.saved);
        return own.output;
      });
    }
    return { output, saved: record ? saved : null };
  });
  dispose(x);
  return result;
}

/**
 * Gradient of {@link linearForward}. Takes `gradient` over and frees what was saved.
 * @param gradient `[tokens, out]`
 * @param inputAgain makes x of the forward pass, with the same bits; null where that has recorded it
 * @returns `[tokens, in]`; null when it is not wanted
 */
export function linearBackward(
  group: LinearGroup,
  gradient: Tensor,
  saved: SavedLinear,
  adapters: readonly ActingAdapter[],
  wantInputGradient: boolean,
  inputAgain: (() => Tensor) | null = null,
): Tensor | null {
  const { linear } = group;
  const base = () => linear.backwardInput(gradient);
  const acting = actingAt(group, adapters, gradient.shape[0]!);
  const frozen = { kernels: linear.kernels, base, joint: linear.adapted ?? null };
  return adaptedBackward(frozen, gradient, saved, acting, wantInputGradient, inputAgain);
}

function adaptedBackward(
  { kernels, base, joint }: FrozenPass,
  gradient: Tensor,
  saved: SavedLinear,
  { lowRank, others, alone }: Acting,
  wantInputGradient: boolean,
  inputAgain: (() => Tensor) | null,
): Tensor | null {
  const byInput = scope(() => {
    if (alone !== null) {
      return alone.adapter.backward(gradient, base, saved.others[0]!, wantInputGradient);
    }
    const ofFrozen = () => (wantInputGradient ? base() : null);
    let result: Tensor | null;
    if (saved.lowRank === null) {
      result = ofFrozen();
    } else {
      const { low } = saved.lowRank;
      const parts = partsOf(lowRank);
      const isJoint = joint !== null && isAdaptedAlone(parts, gradient.shape[0]!);
      const frozen = isJoint ? null : ofFrozen();
      const x = saved.lowRank.x ?? ownRows(inputAgain!(), lowRank);
      const { byInput, byParameters } = isJoint
        ? joint.backward(gradient, x, low, parts[0]!, wantInputGradient)
        : kernels.of(gradient.dtype).loraBackward(gradient, x, low, frozen, parts);
      for (const [index, own] of byParameters.entries()) lowRank[index]!.lowRank.addGradient(own);
      result = byInput;
    }
    const backward = (ofFrozen: Tensor | null, index: number) => {
      const { adapter, tokens } = others[index]!;
      return adapter.backward(rowsOf(gradient, tokens), () => ofFrozen!, saved.others[index]!, wantInputGradient);
    };
    if (result === null) for (const index of others.keys()) backward(null, index);
    else if (others.length > 0) result = replaceRows(result, rangesOf(others), (own, i) => backward(own, i)!);
    return result;
  });
  dispose([gradient, saved]);
  return byInput;
}

function partsOf(acting: readonly LowRankHere[]) {
  return acting.map(({ lowRank, tokens, dropoutSeed }) => lowRank.partOn(tokens, dropoutSeed));
}

const rangesOf = (acting: readonly ActingHere[]) => acting.map(({ tokens }) => tokens);

/**
 * The rows of these adapters, one after the other: nothing is saved for tokens that none of them acts on.
 * @returns x itself, in the same memory, where they are all of its rows
 */
function ownRows(x: Tensor, acting: readonly ActingHere[]): Tensor {
  return scope(() =>
    concat(
      joinedRanges(rangesOf(acting)).map((tokens) => rowsOf(x, tokens)),
      0,
    ),
  );
}

/** @param ranges ascending, without overlap @returns neighbours as one */
function joinedRanges(ranges: readonly TokenRange[]): TokenRange[] {
  const joined: TokenRange[] = [];
  for (const { first, count } of ranges) {
    const last = joined.at(-1);
    if (last !== undefined && last.first + last.count === first) {
      joined[joined.length - 1] = { first: last.first, count: last.count + count };
    } else {
      joined.push({ first, count });
    }
  }
  return joined;
}
