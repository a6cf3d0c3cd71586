import type { FinishReason } from '@lorasmith/contracts';
import type { ScoredToken } from '@lorasmith/models';

/** Turns what is generated for one choice into the chunks of its kind of answer. */
export interface ChoiceOutput {
  /**
   * Takes the next token of the prompt that is reported, before all others.
   * @param scored - Null for the first token of the prompt.
   * @param isText - True if it is a part of the text, and not one that the tokenizer has added.
   */
  promptToken(id: number, scored: ScoredToken | null, isText: boolean): void;
  /** Takes the next token. @returns true if a stop text ends the choice with it: its chunks are then complete */
  push(id: number, scored: ScoredToken | null): boolean;
  /** Completes the chunks: no more tokens come. */
  finish(reason: FinishReason): void;
}
