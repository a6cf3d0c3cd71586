/**
 * Whether a regular expression can take exponential time: it repeats a group that contains another repetition, such as
 * `(\w+\s?)+`, or alternatives, such as `(a|a)*`. JavaScript's matcher backtracks. A linear-time matcher is no substitute,
 * because nearly all expressions of tokenizers use lookahead (`\s+(?!\S)`).
 *
 * No known tokenizer contains such an expression. All others take polynomial time at worst.
 *
 * @param source in the syntax of Oniguruma, as in tokenizer.json; it may be invalid, since the compiler checks it later
 */
export function mayBacktrackExponentially(source: string): boolean {
  /** Whether, for each open group, repeating it is ambiguous. The first entry is the complete expression. */
  const groups = [false];
  let inClass = 0;
  for (let i = 0; i < source.length; i++) {
    const character = source[i];
    if (character === '\\') i++;
    // Classes can be nested: `[a-z&&[^b]]`.
    else if (character === '[') inClass++;
    else if (character === ']' && inClass > 0) inClass--;
    if (inClass > 0) continue;
    if (character === '(') groups.push(false);
    else if (character === '|') groups[groups.length - 1] = true;
    else if (character === ')') {
      const isAmbiguous = groups.length > 1 ? groups.pop()! : false;
      if (isAmbiguous && repeats(source, i + 1)) return true;
      // An ambiguous group makes the enclosing group ambiguous: `((a|a))*`.
      if (isAmbiguous) groups[groups.length - 1] = true;
    }
    if (character !== '(' && repeats(source, i + 1)) groups[groups.length - 1] = true;
  }
  return false;
}

/** Whether a quantifier at this index allows more than one repetition. */
function repeats(source: string, at: number): boolean {
  const quantifier = /^(?:[*+]|\{(\d*)(,?)(\d*)\})/.exec(source.slice(at, at + 24));
  if (quantifier === null) return false;
  const [text, least = '', comma, most = ''] = quantifier;
  if (!text.startsWith('{')) return true;
  return comma === '' ? Number(least) > 1 : most === '' || Number(most) > 1;
}
