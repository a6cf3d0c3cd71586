// node test/bench/plot.mjs RESULTS.json OUT.svg: tokens per second over tokens per step, and over the length of rows.
import { readFile, writeFile } from 'node:fs/promises';

const [resultsFile = '', outFile = ''] = process.argv.slice(2);
/** @typedef {{ tokens: number, length: number, recompute: boolean, tokens_per_second: number }} Size */
const { growth } = /** @type {{ growth: Size[] }} */ (JSON.parse(await readFile(resultsFile, 'utf8')));

const WIDTH = 420;
const HEIGHT = 260;
const LEFT = 60;
const BOTTOM = 40;
const TOP = 30;

const kept = growth.filter(({ recompute }) => !recompute);
const bySize = kept.filter(({ length }) => length === 128);
const byLength = kept.filter(({ length }) => length !== 128);
const most = Math.max(...kept.map((size) => size.tokens_per_second)) * 1.1;
const panels = [
  panel(
    'tokens per step (rows of 128)',
    bySize.map((size) => [size.tokens, size.tokens_per_second]),
    0,
  ),
  panel(
    'length of rows (about 2,048 tokens a step or one row)',
    byLength.map((size) => [size.length, size.tokens_per_second]),
    WIDTH,
  ),
];
await writeFile(
  outFile,
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11">
<title>Tokens per second by tokens per step, and by the length of rows</title>
<rect width="100%" height="100%" fill="white"/>
${panels.join('\n')}
</svg>
`,
);

/**
 * @param {string} label
 * @param {number[][]} points x and y; x is drawn by its logarithm
 * @param {number} offset
 */
function panel(label, points, offset) {
  const xs = points.map(([x = 1]) => Math.log2(x));
  const [first, last] = [Math.min(...xs), Math.max(...xs)];
  const x = (/** @type {number} */ value) =>
    offset + LEFT + ((Math.log2(value) - first) / (last - first || 1)) * (WIDTH - LEFT - 30);
  const y = (/** @type {number} */ value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - TOP);
  const line = points.map(([px = 1, py = 0]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(' ');
  const marks = points.map(
    ([px = 1, py = 0]) =>
      `<circle cx="${x(px).toFixed(1)}" cy="${y(py).toFixed(1)}" r="3" fill="#1f5fa8"/><text x="${x(px).toFixed(1)}" y="${(y(py) - 8).toFixed(1)}" text-anchor="middle">${py.toFixed(0)}</text><text x="${x(px).toFixed(1)}" y="${HEIGHT - BOTTOM + 15}" text-anchor="middle">${px}</text>`,
  );
  return `<line x1="${offset + LEFT}" y1="${HEIGHT - BOTTOM}" x2="${offset + WIDTH - 20}" y2="${HEIGHT - BOTTOM}" stroke="#888"/>
<line x1="${offset + LEFT}" y1="${TOP}" x2="${offset + LEFT}" y2="${HEIGHT - BOTTOM}" stroke="#888"/>
<text x="${offset + LEFT - 45}" y="${TOP - 10}">tokens/s</text>
<text x="${offset + WIDTH / 2 + 20}" y="${HEIGHT - 8}" text-anchor="middle">${label}</text>
<polyline points="${line}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>
${marks.join('\n')}`;
}
