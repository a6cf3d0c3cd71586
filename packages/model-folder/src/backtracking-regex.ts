/**
 * Whether a regular expression may take time without bounds on some text: it repeats a group that itself repeats
 * something, such as `(\w+\s?)+`, or that has alternatives, such as `(a|a)*`. JavaScript matches by backtracking, and the
 * expressions of a tokenizer cannot use a linear matcher, because nearly all look ahead (`\s+(?!\S)`).
 *
 * No known tokenizer has one. What is left can be slow only by a power of the text's length.
 *
 * @param source in the syntax of Oniguruma, in which tokenizer.json has them; broken ones are for the compiler to refuse
 */
export function mayBacktrackWithoutEnd(source: string): boolean {
  /** For each open group whether something in it makes its repetition ambiguous; the whole is the first. */
  const groups = [false];
  let inClass = 0;
  for (let i = 0; i < source.length; i++) {
    const character = source[i];
    if (character === '\\') i++;
    // Classes nest: `[a-z&&[^b]]`.
    else if (character === '[') inClass++;
    else if (character === ']' && inClass > 0) inClass--;
    if (inClass > 0) continue;
    if (character === '(') groups.push(false);
    else if (character === '|') groups[groups.length - 1] = true;
    else if (character === ')') {
      const isAmbiguous = groups.length > 1 ? groups.pop()! : false;
      if (isAmbiguous && repeats(source, i + 1)) return true;
      // Alternatives in a group count for the group around it: `((a|a))*`.
      if (isAmbiguous) groups[groups.length - 1] = true;
    }
    if (character !== '(' && repeats(source, i + 1)) groups[groups.length - 1] = true;
  }
  return false;
}

/** Whether a quantifier that allows more than one stands here. */
function repeats(source: string, at: number): boolean {
  const quantifier = /^(?:[*+]|\{(\d*)(,?)(\d*)\})/.exec(source.slice(at, at + 24));
  if (quantifier === null) return false;
  const [whole, least = '', comma, most = ''] = quantifier;
  if (!whole.startsWith('{')) return true;
  return comma === '' ? Number(least) > 1 : most === '' || Number(most) > 1;
}
