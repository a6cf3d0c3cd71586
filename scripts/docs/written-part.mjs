/**
 * Replaces a part of a page, between the two marks that name it.
 *
 * @param {string} page
 * @param {string} name
 * @param {string} text Markdown
 * @throws {Error} when the page lacks the marks
 */
export function withPart(page, name, text) {
  const [begin, end] = [`<!-- ${name}: written by \`npm run docs\` -->`, `<!-- end of ${name} -->`];
  const [before, rest = ''] = page.split(begin);
  const [, after] = rest.split(end);
  if (before === undefined || after === undefined) throw new Error(`the page lacks ${begin} or ${end}`);
  return `${before}${begin}\n\n${text}\n\n${end}${after}`;
}
