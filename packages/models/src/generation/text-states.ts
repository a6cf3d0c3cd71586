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
      const before = piece.states.of(layer)?.tail;
      piece.states.set(layer, { tail: tailAfter(layer, before, read[i]!), state: states[i]! });
    }
    dispose(read);
  }
}

function zeros({ settings, taps, computeDtype }: RecurrentLayer): RecurrentState {
  const { valueHeads, keySize, valueSize } = settings;
  return {
    tail: fill([1, taps - 1, mixedWidth(settings)], 0, computeDtype),
    state: fill([1, valueHeads, keySize, valueSize], 0),
  };
}

/** The last tokens that the convolution has read, `[1, taps - 1, mixed]`. */
function tailAfter({ settings, taps, computeDtype }: RecurrentLayer, before: Tensor | undefined, read: Tensor): Tensor {
  const width = mixedWidth(settings);
  return scope(() => {
    const earlier = before ?? fill([1, taps - 1, width], 0, computeDtype);
    const known = concat([reshape(earlier, [-1, width]), read], 0);
    const tail = rowsOf(known, { first: known.shape[0]! - (taps - 1), count: taps - 1 });
    return reshape(tail, [1, taps - 1, width]);
  });
}

function mixedWidth({ keyHeads, valueHeads, keySize, valueSize }: RecurrentLayer['settings']): number {
  return 2 * keyHeads * keySize + valueHeads * valueSize;
}
