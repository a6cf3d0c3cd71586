import { alias, concat, dispose, fill, keep, reshape, rowsOf, scope, split, type Tensor } from '@lorasmith/tensor';
import type { RecurrentLayer, RecurrentMemory, RecurrentState } from '../decoder/recurrence.js';

/** The states of linear attention after the tokens of a text that are read; nothing for models without it. */
export class TextStates {
  readonly #byLayer = new Map<RecurrentLayer, RecurrentState>();

  /** The state of one row; undefined before the first token. */
  of(layer: RecurrentLayer): RecurrentState | undefined {
    return this.#byLayer.get(layer);
  }

  /** Takes over a state in the place of the one before. */
  set(layer: RecurrentLayer, state: RecurrentState): void {
    dispose(this.#byLayer.get(layer));
    this.#byLayer.set(layer, keep(state));
  }

  /** Continues from where another text is. */
  copyFrom(other: TextStates): void {
    this.clear();
    for (const [layer, { tail, state }] of other.#byLayer) {
      this.#byLayer.set(layer, keep({ tail: alias(tail), state: alias(state) }));
    }
  }

  /** Frees the states: the text is read from its start, or no more. */
  clear(): void {
    dispose([...this.#byLayer.values()]);
    this.#byLayer.clear();
  }
}

/** Some tokens of a text in a step. */
export interface StatefulPiece {
  states: TextStates;
  /** Tokens of the text in this step. */
  tokens: number;
}

/** The states of the texts of a step. */
export class StepStates implements RecurrentMemory {
  readonly #pieces: readonly StatefulPiece[];

  constructor(pieces: readonly StatefulPiece[]) {
    this.#pieces = pieces;
  }

  before(layer: RecurrentLayer): RecurrentState {
    return scope(() => {
      const states = this.#pieces.map(({ states }) => states.of(layer) ?? zeros(layer));
      return {
        tail: concat(
          states.map(({ tail }) => tail),
          0,
        ),
        state: concat(
          states.map(({ state }) => state),
          0,
        ),
      };
    });
  }

  after(layer: RecurrentLayer, mixed: Tensor, state: Tensor): void {
    const counts = this.#pieces.map(({ tokens }) => tokens);
    const states = split(
      state,
      counts.map(() => 1),
      0,
    );
    const read = split(mixed, counts, 0);
    for (const [i, piece] of this.#pieces.entries()) {
      piece.states.set(layer, { tail: tailAfter(layer, piece.states, read[i]!), state: states[i]! });
    }
    dispose(read);
  }
}

/** The state before the first token. */
function zeros({ settings, taps, mixedSize, computeDtype }: RecurrentLayer): RecurrentState {
  const { valueHeads, keySize, valueSize } = settings;
  return {
    tail: fill([1, taps - 1, mixedSize], 0, computeDtype),
    state: fill([1, valueHeads, keySize, valueSize], 0),
  };
}

/** The last tokens that the convolution has read, `[1, taps - 1, mixed]`. */
function tailAfter(layer: RecurrentLayer, states: TextStates, read: Tensor): Tensor {
  const { mixedSize, taps } = layer;
  return scope(() => {
    const { tail } = states.of(layer) ?? zeros(layer);
    const known = concat([reshape(tail, [-1, mixedSize]), read], 0);
    const last = rowsOf(known, { first: known.shape[0]! - (taps - 1), count: taps - 1 });
    return reshape(last, [1, taps - 1, mixedSize]);
  });
}
