import { NOTHING, type Term, type Terms } from './terms.js';

/** The tokens that may come in a term, whatever follows it. */
interface PrefixMask {
  /** A bit for each token that ends within the term, or with it. */
  bits: Uint32Array;
  /** Nodes of the tree at which the term may end: what follows it decides about their descendants. */
  ends: readonly number[];
}

/** Masks of a vocabulary of 150,000 take 19 KB. */
const MAX_MASKS = 512;

/** The tokens that may come next in the texts of terms. */
export class TokenMasks {
  readonly #terms: Terms;
  readonly #trie: TokenTrie;
  readonly #masks = new Map<Term, Uint32Array>();
  readonly #prefixes = new Map<Term, PrefixMask>();
  readonly #path = new Int32Array(MAX_TOKEN_BYTES + 1);

  constructor(terms: Terms, trie: TokenTrie) {
    this.#terms = terms;
    this.#trie = trie;
  }

  /** A bit for each token after whose bytes the text can still be completed. Not to be changed. @throws GrammarTooLargeError */
  of(term: Term): Uint32Array {
    const known = this.#masks.get(term);
    if (known !== undefined) return known;
    const mask = this.#make(term);
    if (this.#masks.size >= MAX_MASKS) this.#masks.clear();
    this.#masks.set(term, mask);
    return mask;
  }

  #make(term: Term): Uint32Array {
    const node = this.#terms.node(term);
    if (node.kind === 'choice') {
      const mask = this.#noTokens();
      for (const one of node.of) addBits(mask, this.of(one));
      return mask;
    }
    if (node.kind !== 'sequence') return this.#prefix(term).bits;
    if (this.#terms.isNearDeepest(term)) {
      const mask = this.#noTokens();
      this.#walk(term, ROOT, mask, null);
      return mask;
    }
    const { bits, ends } = this.#prefix(node.first);
    const mask = bits.slice();
    for (const end of ends) {
      if (end === ROOT) addBits(mask, this.of(node.rest));
      else this.#walk(node.rest, end, mask, null);
    }
    return mask;
  }

  #prefix(term: Term): PrefixMask {
    const capped = this.#terms.capped(term, MAX_TOKEN_BYTES);
    const known = this.#prefixes.get(capped);
    if (known !== undefined) return known;
    const bits = this.#noTokens();
    const ends: number[] = this.#terms.isNullable(capped) ? [ROOT] : [];
    this.#walk(capped, ROOT, bits, ends);
    if (this.#prefixes.size >= MAX_MASKS) this.#prefixes.clear();
    const prefix = { bits, ends };
    this.#prefixes.set(capped, prefix);
    return prefix;
  }

  /** Adds the tokens below a node whose further bytes a term allows, and the nodes where it may end. */
  #walk(term: Term, start: number, bits: Uint32Array, ended: number[] | null): void {
    const { bytes, depths, ends, firstToken, sameBytes } = this.#trie;
    const path = this.#path;
    path[depths[start]!] = term;
    const end = ends[start]!;
    for (let node = start + 1; node < end; ) {
      const depth = depths[node]!;
      const next = this.#terms.next(path[depth - 1]!, bytes[node]!);
      if (next === NOTHING) {
        node = ends[node]!;
        continue;
      }
      path[depth] = next;
      for (let id = firstToken[node]!; id !== -1; id = sameBytes[id]!) bits[id >>> 5]! |= 1 << (id & 31);
      if (ended !== null && this.#terms.isNullable(next)) ended.push(node);
      node++;
    }
  }

  #noTokens(): Uint32Array {
    return new Uint32Array(Math.ceil(this.#trie.tokens.length / 32));
  }
}

function addBits(mask: Uint32Array, more: Uint32Array): void {
  for (let word = 0; word < mask.length; word++) mask[word]! |= more[word]!;
}

/** Longer tokens are never taken: they are rare, and a mask depends on as many bytes of what follows. */
export const MAX_TOKEN_BYTES = 64;

/** The root's index. */
export const ROOT = 0;

/** All tokens of a vocabulary by their bytes, as a tree in one array: a node is followed by its descendants. */
export class TokenTrie {
  /** Bytes of each token id; null for tokens that constrained texts do not have. */
  readonly tokens: readonly (Uint8Array | null)[];
  /** The byte that leads to a node. */
  readonly bytes: Uint8Array;
  readonly depths: Uint8Array;
  /** The index after the last descendant of a node. */
  readonly ends: Int32Array;
  /** The first token that ends at a node; -1 for none. */
  readonly firstToken: Int32Array;
  /** The next token with the same bytes; -1 for none. */
  readonly sameBytes: Int32Array;

  constructor(tokens: readonly (Uint8Array | null)[]) {
    this.tokens = tokens;
    const ids = [...tokens.keys()].filter((id) => {
      const length = tokens[id]?.length ?? 0;
      return length > 0 && length <= MAX_TOKEN_BYTES;
    });
    ids.sort((one, other) => Buffer.compare(tokens[one]!, tokens[other]!) || one - other);
    const total = ids.reduce((sum, id) => sum + tokens[id]!.length, 1);
    const [bytes, depths] = [new Uint8Array(total), new Uint8Array(total)];
    const [ends, firstToken] = [new Int32Array(total), new Int32Array(total).fill(-1)];
    this.sameBytes = new Int32Array(tokens.length).fill(-1);
    const path = [ROOT];
    let count = 1;
    let last: number | null = null;
    for (const id of ids) {
      const own = tokens[id]!;
      const shared = last === null ? 0 : sharedLength(tokens[last]!, own);
      if (last !== null && shared === own.length) {
        this.sameBytes[last] = id;
        last = id;
        continue;
      }
      for (const node of path.splice(shared + 1)) ends[node] = count;
      for (let depth = shared + 1; depth <= own.length; depth++) {
        bytes[count] = own[depth - 1]!;
        depths[count] = depth;
        path.push(count++);
      }
      firstToken[path.at(-1)!] = id;
      last = id;
    }
    for (const node of path) ends[node] = count;
    this.bytes = bytes.slice(0, count);
    this.depths = depths.slice(0, count);
    this.ends = ends.slice(0, count);
    this.firstToken = firstToken.slice(0, count);
  }
}

function sharedLength(one: Uint8Array, other: Uint8Array): number {
  let length = 0;
  while (length < one.length && length < other.length && one[length] === other[length]) length++;
  return length;
}
