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
