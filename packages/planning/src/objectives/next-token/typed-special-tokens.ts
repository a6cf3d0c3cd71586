import type { Fault, TextualRow } from '@lorasmith/contracts';
import type { Tokenizer } from '@lorasmith/model-folder';

/**
 * Finds special tokens that are written out in the text of rows. They are encoded as those tokens, as other trainers do.
 * That may be intended, or may let the text end its own turn, so the report warns of it.
 */
export class TypedSpecialTokens {
  readonly #pattern: RegExp | null;
  #first: { line: number; token: string } | null = null;
  #rows = 0;

  constructor(tokenizer: Tokenizer) {
    const tokens = [...tokenizer.specialTokens.values()].filter((token) => token !== '');
    const escaped = tokens.map((token) => token.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
    this.#pattern = escaped.length > 0 ? new RegExp(escaped.join('|')) : null;
  }

  look(row: TextualRow, line: number): void {
    if (this.#pattern === null) return;
    const texts = 'messages' in row ? row.messages.map(({ content }) => content) : Object.values(row);
    for (const text of texts) {
      const match = this.#pattern.exec(text);
      if (match === null) continue;
      this.#rows++;
      this.#first ??= { line, token: match[0] };
      return;
    }
  }

  warnings(): Fault[] {
    if (this.#first === null) return [];
    const { line, token } = this.#first;
    const message =
      `${this.#rows} rows contain a special token of the model as text, the first ${JSON.stringify(token)} ` +
      `in line ${line}. It becomes that token. Remove it unless you intend this.`;
    return [{ code: 'special_token_in_text', message, line }];
  }
}
