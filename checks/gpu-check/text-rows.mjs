/** Each word, with the space before it, is one token of the demo model's vocabulary. */
const WORDS = ['the', 'time', 'of', 'water', 'and', 'light', 'in', 'house', 'is', 'green', 'to', 'people'];

/**
 * Rows of text that have `length` tokens once they are truncated to it.
 *
 * @param {{ rows: number, length: number }} size
 * @returns {{ text: string }[]}
 */
export function textRows({ rows, length }) {
  return Array.from({ length: rows }, (_, row) => ({
    text: Array.from(
      { length: length + 1 },
      (_word, i) => WORDS[(row * 7 + i * 5 + ((i * i) % 11)) % WORDS.length],
    ).join(' '),
  }));
}

/**
 * @param {string} text such as `4x512,1x8192`
 * @returns {{ rows: number, length: number }[]}
 */
export function parseSizes(text) {
  return text.split(',').map((size) => {
    const [rows, length] = size.split('x').map(Number);
    if (!rows || !length) throw new Error(`${JSON.stringify(size)} is not a size such as 4x512`);
    return { rows, length };
  });
}
