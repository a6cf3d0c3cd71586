import { JsonTerms } from './json-terms.js';
import { termOfSchema } from './schema-terms.js';
import { EMPTY, type Term, Terms } from './terms.js';
import { TokenMasks } from './token-masks.js';
import type { TokenTrie } from './token-trie.js';

/** The tokens that may come next in a text of a grammar, while it grows. */
export interface JsonConstraint {
  /** Bit `id % 32` of word `id / 32` for each token that may come next. Not to be changed. @throws GrammarTooLargeError */
  allowed(): Uint32Array;
  /** @throws GrammarTooLargeError */
  accept(id: number): void;
  /** Whether the text can only end here. */
  readonly isComplete: boolean;
}

/** Terms, and what is computed of them for a vocabulary. Texts of the same tokenizer share it. */
interface Arena {
  terms: Terms;
  json: JsonTerms;
  masks: TokenMasks;
  /** The terms of schemas, by their text. */
  schemas: Map<string, Term>;
  /** The characters of all these texts. */
  characters: number;
}

/** Texts of schemas that are kept: descriptions add no terms. */
const MAX_CHARACTERS = 2 ** 24;

/** The grammars of JSON schemas for one vocabulary. */
export class JsonGrammars {
  readonly #trie: TokenTrie;
  readonly #stopIds: readonly number[];
  #arena: Arena | null = null;

  /** @param stopIds tokens that end a text where it may end */
  constructor(trie: TokenTrie, stopIds: readonly number[]) {
    this.#trie = trie;
    this.#stopIds = stopIds;
  }

  /** Makes constraints of the JSON texts of a schema. @throws SchemaError, GrammarTooLargeError */
  of(schema: unknown): () => JsonConstraint {
    // Texts that grow in an older arena keep it.
    if (this.#arena === null || isFull(this.#arena)) this.#arena = this.#newArena();
    const arena = this.#arena;
    const key = JSON.stringify(schema);
    let term = arena.schemas.get(key);
    if (term === undefined) {
      term = this.#compiled(schema, arena);
      arena.schemas.set(key, term);
      arena.characters += key.length;
    }
    const start = term;
    return () => new TextOfTerm(start, arena, this.#trie, this.#stopIds);
  }

  #compiled(schema: unknown, { terms, json }: Arena): Term {
    try {
      return termOfSchema(schema, terms, json);
    } catch (error) {
      // It has unfinished rules.
      this.#arena = null;
      throw error;
    }
  }

  #newArena(): Arena {
    const terms = new Terms();
    const masks = new TokenMasks(terms, this.#trie);
    return { terms, json: new JsonTerms(terms), masks, schemas: new Map(), characters: 0 };
  }
}

function isFull({ terms, characters }: Arena): boolean {
  return terms.isHalfFull || characters > MAX_CHARACTERS;
}

class TextOfTerm implements JsonConstraint {
  #term: Term;
  readonly #arena: Arena;
  readonly #trie: TokenTrie;
  readonly #stopIds: readonly number[];

  constructor(term: Term, arena: Arena, trie: TokenTrie, stopIds: readonly number[]) {
    this.#term = term;
    this.#arena = arena;
    this.#trie = trie;
    this.#stopIds = stopIds;
  }

  get isComplete(): boolean {
    return this.#term === EMPTY;
  }

  allowed(): Uint32Array {
    const mask = this.#arena.masks.of(this.#term);
    if (!this.#arena.terms.isNullable(this.#term)) {
      if (mask.every((word) => word === 0)) throw new Error('The tokenizer has no token for what must come next.');
      return mask;
    }
    const withStops = mask.slice();
    for (const id of this.#stopIds) withStops[id >>> 5]! |= 1 << (id & 31);
    return withStops;
  }

  accept(id: number): void {
    for (const byte of this.#trie.tokens[id] ?? []) this.#term = this.#arena.terms.next(this.#term, byte);
  }
}
