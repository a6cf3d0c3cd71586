import { ProductError } from '@lorasmith/contracts';
import { JsonGrammars, TokenTrie } from '@lorasmith/json-grammar';
import { type ModelText, stopTokenIds } from '@lorasmith/model-folder';
import { cacheBytes, type Decoder, Generation } from '@lorasmith/models';
import { AdapterCache } from './adapter-cache.js';
import { TokenTexts } from './choice-text.js';

export interface GenerationMemory {
  /** Bytes of keys and values. */
  cacheBytes: number;
  /** Bytes of adapters. */
  adapterBytes: number;
}

/** Texts that are generated at once; further ones wait. */
const MAX_TEXTS = 16;
/** The cache has pages of so many tokens. */
const PAGE_TOKENS = 32;

/** Bytes that generation with a model takes: the cache, and the states of linear attention. */
export function generationBytes(decoder: Decoder, cacheTokens: number): number {
  return cacheBytes(decoder, { tokens: cacheTokens, texts: MAX_TEXTS });
}

/** The count of tokens that the cache for a model has space for. */
export function cacheTokensOf(decoder: Decoder, memory: GenerationMemory): number {
  const pages = Math.max(1, Math.floor(memory.cacheBytes / cacheBytes(decoder, { tokens: PAGE_TOKENS, texts: 0 })));
  // More than all texts at their longest would never be used.
  const mostPages = MAX_TEXTS * Math.ceil((decoder.architecture.maxPositions + 1) / PAGE_TOKENS);
  return PAGE_TOKENS * Math.min(pages, mostPages);
}

export interface GenerationContextOptions {
  decoder: Decoder;
  /** The identity of the loaded model. */
  base: { name: string; weights_sha256: string };
  /** @see cacheTokensOf */
  cacheTokens: number;
  /** Bytes of adapters in memory. */
  adapterBytes: number;
}

/** All that answers need besides the base model in memory. */
export class GenerationContext {
  readonly decoder: Decoder;
  readonly generation: Generation;
  readonly adapters: AdapterCache;
  readonly #cacheTokens: number;
  #texts: { text: ModelText; tokenTexts: TokenTexts; grammars: JsonGrammars | null } | null = null;

  constructor({ decoder, base, cacheTokens, adapterBytes }: GenerationContextOptions) {
    this.decoder = decoder;
    this.#cacheTokens = cacheTokens;
    this.generation = new Generation(decoder, { cacheTokens, maxTexts: MAX_TEXTS });
    this.adapters = new AdapterCache({ decoder, base, maxBytes: adapterBytes });
  }

  /** Tokens that each of `n` answers to a prompt may have, those of the prompt included. */
  spaceFor(n: number): number {
    const ofCache = PAGE_TOKENS * Math.floor(this.#cacheTokens / PAGE_TOKENS / n);
    return Math.min(this.decoder.architecture.maxPositions, ofCache);
  }

  /** The texts of single tokens with this tokenizer. */
  tokenTextsOf(text: ModelText): TokenTexts {
    return this.#textsOf(text).tokenTexts;
  }

  /**
   * The grammars of JSON with this tokenizer.
   * @throws ProductError `invalid_request` for a tokenizer whose tokens have no fixed bytes
   */
  grammarsOf(text: ModelText): JsonGrammars {
    const texts = this.#textsOf(text);
    if (texts.grammars !== null) return texts.grammars;
    const bytes = text.tokenizer.tokenBytes();
    if (bytes === null) {
      const message =
        'Answers in JSON are not supported with the tokenizer of this base model: its tokens have no fixed bytes.';
      throw new ProductError('invalid_request', message, { param: 'response_format' });
    }
    texts.grammars = new JsonGrammars(new TokenTrie(bytes), stopTokenIds(this.decoder.architecture, text.tokenizer));
    return texts.grammars;
  }

  #textsOf(text: ModelText) {
    if (this.#texts?.text !== text) {
      this.#texts = { text, tokenTexts: new TokenTexts(text.tokenizer), grammars: null };
    }
    return this.#texts;
  }

  /** Frees everything but the base model. Nobody may be generating. */
  dispose(): void {
    this.generation.dispose();
    this.adapters.dispose();
  }
}
