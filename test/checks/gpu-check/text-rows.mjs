/** Each word, with the space before it, is one token of the demo model's vocabulary. */
const WORDS = ['the', 'time', 'of', 'water', 'and', 'light', 'in', 'house', 'is', 'green', 'to', 'people'];

/** @param {number} row @param {number} count */
function wordsOf(row, count) {
  return Array.from({ length: count }, (_, i) => WORDS[(row * 7 + i * 5 + ((i * i) % 11)) % WORDS.length]).join(' ');
}

/**
 * Rows of text that have `length` tokens once they are truncated to it.
 *
 * @param {{ rows: number, length: number }} size
 * @returns {{ text: string }[]}
 */
export function textRows({ rows, length }) {
  return Array.from({ length: rows }, (_, row) => ({ text: wordsOf(row, length + 1) }));
}

/** The shares of a row that all rows of a chat, or the two of a pair, have in common. */
const SHARED = 3 / 4;

/**
 * Conversations with one system message, which is three quarters of each.
 *
 * @param {{ rows: number, length: number }} size `length`: words of a row
 */
export function chatRows({ rows, length }) {
  const shared = Math.round(SHARED * length);
  const system = { role: 'system', content: wordsOf(0, shared) };
  const half = Math.ceil((length - shared) / 2);
  return Array.from({ length: rows }, (_, row) => ({
    messages: [
      system,
      { role: 'user', content: wordsOf(row + 1, half) },
      { role: 'assistant', content: wordsOf(row + 2, half) },
    ],
  }));
}

/**
 * Pairs of answers to a prompt, which is three quarters of each of the two.
 *
 * @param {{ rows: number, length: number }} size `rows`: pairs; `length`: words of a prompt and one answer
 */
export function pairRows({ rows, length }) {
  const shared = Math.round(SHARED * length);
  const answer = (/** @type {number} */ row) => [{ role: 'assistant', content: wordsOf(row, length - shared) }];
  return Array.from({ length: rows }, (_, row) => ({
    prompt: [{ role: 'user', content: wordsOf(3 * row, shared) }],
    chosen: answer(3 * row + 1),
    rejected: answer(3 * row + 2),
  }));
}

/**
 * Prompts to which answers are sampled.
 *
 * @param {{ rows: number, length: number }} size `length`: words of a prompt
 */
export function promptRows({ rows, length }) {
  return Array.from({ length: rows }, (_, row) => ({
    prompt: [{ role: 'user', content: wordsOf(row, length) }],
    reference: null,
  }));
}

/**
 * The rows that are trained in a step. `rows`: rows of text; `chats`: of one system message; `pairs`: of answers; `groups`: of answers that are
 * sampled.
 *
 * @typedef {{ kind: 'rows' | 'chats' | 'pairs' | 'groups', rows: number, length: number }} Size
 */

/**
 * @param {string} text such as `4x512,pairs:2x2048`
 * @returns {Size[]}
 */
export function parseSizes(text) {
  return text.split(',').map((size) => {
    const [, kind = 'rows', rows, length] = /^(?:(rows|chats|pairs|groups):)?(\d+)x(\d+)$/.exec(size) ?? [];
    if (!Number(rows) || !Number(length))
      throw new Error(`${JSON.stringify(size)} is not a size such as 4x512 or pairs:2x2048`);
    return { kind: /** @type {Size['kind']} */ (kind), rows: Number(rows), length: Number(length) };
  });
}
