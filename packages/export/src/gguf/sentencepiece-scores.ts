/** Only its text and whether it is matched as a whole. */
interface ScoredToken {
  text: string;
  isAdded: boolean;
}

/**
 * Scores of tokens that make llama.cpp merge as the merges of a tokenizer.json say. llama.cpp joins any two neighbours that are a
 * token together, the token with the highest score first; a list of merges joins the first of its pairs. Both are the same if
 * every token has all its pairs in the list, one behind the other, as in lists that were made from the scores of SentencePiece.
 *
 * @param tokens by id
 * @returns by id: 0, -1, … in the order of the merges, then the tokens that nothing is merged to; 0 for tokens of bytes and added
 * ones. Null if no scores say the same as the merges.
 */
export function scoresOfMerges(tokens: readonly ScoredToken[], merges: readonly string[][]): number[] | null {
  const ids = new Map(tokens.flatMap(({ text, isAdded }, id) => (isAdded ? [] : [[text, id] as const])));
  const scores = new Array<number>(tokens.length).fill(0);
  const pairs = new Map<number, number>();
  let rank = 0;
  let last = -1;
  for (const [left = '', right = ''] of merges) {
    const id = ids.get(left + right);
    if (id === undefined || !ids.has(left) || !ids.has(right)) return null;
    if (id !== last) {
      // Its pairs are not one behind the other.
      if (pairs.has(id)) return null;
      scores[id] = -rank++;
      last = id;
    }
    pairs.set(id, (pairs.get(id) ?? 0) + 1);
  }
  for (const [text, id] of ids) {
    let possible = 0;
    for (let end = 1; end < text.length; end++) if (ids.has(text.slice(0, end)) && ids.has(text.slice(end))) possible++;
    if (possible !== (pairs.get(id) ?? 0)) return null;
    if (!pairs.has(id) && !/^<0x[0-9A-F]{2}>$/i.test(text)) scores[id] = -rank++;
  }
  return scores;
}
