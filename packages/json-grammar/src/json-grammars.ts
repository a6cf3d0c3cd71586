import { JsonTerms } from './json-terms.js';
import { termOfSchema } from './schema-terms.js';
import { copyTerm } from './term-walks.js';
import { EMPTY, GrammarTooLargeError, type Term, Terms } from './terms.js';
import { TokenMasks, type TokenTrie } from './token-masks.js';

/** The tokens that may come next in a text of a grammar, while it grows. */
export interface JsonConstraint {
  /** Bit `id % 32` of word `id / 32` for each token that may come next. Not to be changed. @throws GrammarTooLargeError */
  allowed(): Uint32Array;
  /** @throws GrammarTooLargeError */
  accept(id: number): void;
  /** True if the text can only end here. */
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

/**
 * Tokens of a text before it may move to a further arena. Each character of a string with a `maxLength` is a state, so a long one
 * fills an arena; a schema that fills one with fewer tokens would take too long.
 */
const TOKENS_OF_ARENA = 128;

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
    const arena = this.#roomyArena();
    const key = JSON.stringify(schema);
    let term = arena.schemas.get(key);
    if (term === undefined) {
      term = this.#compiled(schema, arena);
      arena.schemas.set(key, term);
      arena.characters += key.length;
    }
    const start = term;
    const move = () => this.#roomyArena();
    return () => new TextOfTerm(start, arena, { trie: this.#trie, stopIds: this.#stopIds, move });
  }

  /** An arena with space for more states. Texts that grow in an older one keep it while they can. */
  #roomyArena(): Arena {
    if (this.#arena === null || isFull(this.#arena)) this.#arena = this.#newArena();
    return this.#arena;
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

interface TextOptions {
  trie: TokenTrie;
  stopIds: readonly number[];
  /** Returns an arena for a text whose own is full. */
  move: () => Arena;
}

class TextOfTerm implements JsonConstraint {
  #term: Term;
  #arena: Arena;
  readonly #options: TextOptions;
  #tokens = 0;
  #moves = 0;

  constructor(term: Term, arena: Arena, options: TextOptions) {
    this.#term = term;
    this.#arena = arena;
    this.#options = options;
  }

  get isComplete(): boolean {
    return this.#term === EMPTY;
  }

  allowed(): Uint32Array {
    const mask = this.#withSpace(({ masks }) => masks.of(this.#term));
    if (!this.#arena.terms.isNullable(this.#term)) {
      if (mask.every((word) => word === 0)) throw new Error('The tokenizer has no token for what must come next.');
      return mask;
    }
    const withStops = mask.slice();
    for (const id of this.#options.stopIds) withStops[id >>> 5]! |= 1 << (id & 31);
    return withStops;
  }

  accept(id: number): void {
    this.#tokens++;
    for (const byte of this.#options.trie.tokens[id] ?? []) {
      this.#term = this.#withSpace(({ terms }) => terms.next(this.#term, byte));
    }
  }

  /** Does work on the term; if its arena is full, in another one that has only what the rest of the text can reach. */
  #withSpace<Result>(work: (arena: Arena) => Result): Result {
    try {
      return work(this.#arena);
    } catch (error) {
      if (!(error instanceof GrammarTooLargeError) || this.#tokens < this.#moves * TOKENS_OF_ARENA) throw error;
      this.#moves++;
      const arena = this.#options.move();
      this.#term = copyTerm(this.#term, this.#arena.terms, arena.terms);
      this.#arena = arena;
      return work(arena);
    }
  }
}
