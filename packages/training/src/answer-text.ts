import type { ModelText } from '@lorasmith/model-folder';
import type { GeneratedAnswer } from './generate-answers.js';

/** The text of tokens, without the special ones. */
export function textOfIds(ids: Iterable<number>, { tokenizer }: ModelText): string {
  return tokenizer.decode([...ids], { skipSpecialTokens: true });
}

/** An answer as events show it. */
export interface ShownAnswer {
  text: string;
  tokens: number;
  /** `length` also where the text is cut. */
  finish_reason: 'stop' | 'length';
}

/** An answer whose text is cut to so many characters, and has no half of one at its end. */
export function shownAnswer(
  { ids, hasEnded }: { ids: ArrayLike<number> & Iterable<number> } & Pick<GeneratedAnswer, 'hasEnded'>,
  model: ModelText,
  maxLength: number,
): ShownAnswer {
  const whole = textOfIds(ids, model);
  const text = whole.slice(0, maxLength).replace(/[\ud800-\udbff]$/, '');
  const isWhole = hasEnded && text.length === whole.length;
  return { text, tokens: ids.length, finish_reason: isWhole ? 'stop' : 'length' };
}
