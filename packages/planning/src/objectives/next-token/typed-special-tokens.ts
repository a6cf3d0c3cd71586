import { type TextualRow, textsOfConversation } from '@lorasmith/contracts';
import type { Tokenizer } from '@lorasmith/model-folder';

/**
 * Finds special tokens that are written out in the text of rows. They are encoded as those tokens, as other trainers do.
 * That may be intended, or may let the text end its own turn, so the report warns of it.
 */
export class TypedSpecialTokens {
  readonly #pattern: RegExp | null;

  constructor(tokenizer: Tokenizer) {
    const tokens = [...tokenizer.specialTokens.values()].filter((token) => token !== '');
    const escaped = tokens.map((token) => token.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
    this.#pattern = escaped.length > 0 ? new RegExp(escaped.join('|')) : null;
  }

  /** The first in a row; null if there is none. */
  firstIn(row: TextualRow): string | null {
    if (this.#pattern === null) return null;
    const texts =
      'messages' in row ? textsOfConversation(row.messages, row.tools).map(([, text]) => text) : Object.values(row);
    for (const text of texts) {
      const match = this.#pattern.exec(text);
      if (match !== null) return match[0];
    }
    return null;
  }
}
