import { memoryOnCard, modelOf, PUBLISHED_SHAPES } from './model-on-card.mjs';

const MODELS = /** @type {const} */ ([
  'Llama 3.2 1B',
  'Llama 3.2 3B',
  'Qwen3 4B',
  'Qwen3 8B',
  'Llama 3.1 8B',
  'Gemma 3 12B',
  'Qwen3 14B',
  'Mistral Small 3 24B',
  'Qwen3 32B',
  'Llama 3.3 70B',
]);
/** The memory of usual cards, as the driver reports it, in MiB. */
const CARDS = /** @type {const} */ ([
  ['8 GB', 8_188],
  ['12 GB', 12_288],
  ['16 GB', 16_376],
  ['24 GB', 24_564],
  ['48 GB', 46_068],
  ['80 GB', 81_559],
]);
const LENGTH = 2048;
const RANK = 16;
/** Larger micro-batches are no faster. */
const MOST_ROWS = 16;

/**
 * The table of models and cards: the most rows of a micro-batch with which a model can be trained on a card.
 *
 * @param {import('./model-on-card.mjs').Layouts & Pick<typeof import('../../packages/model-folder/dist/index.js'), 'withBaseQuantization'>} modelFolder
 * @param {import('./model-on-card.mjs').Planning} planning
 */
export function cardTable(modelFolder, planning) {
  const { withBaseQuantization } = modelFolder;
  const rows = MODELS.flatMap((name) => {
    const dense = modelOf(modelFolder, name, PUBLISHED_SHAPES[name]);
    const quantized = { ...dense, ...withBaseQuantization(dense, 'nf4'), architecture: dense.architecture };
    return [
      [name, 'bf16', ...CARDS.map(([, mebibytes]) => rowsText(planning, dense, mebibytes))],
      ['', 'nf4', ...CARDS.map(([, mebibytes]) => rowsText(planning, quantized, mebibytes))],
    ];
  });
  const head = ['Model', 'Weights', ...CARDS.map(([name]) => name)];
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** @param {import('./model-on-card.mjs').Planning} planning @param {ReturnType<typeof modelOf>} model @param {number} mebibytes */
function rowsText(planning, model, mebibytes) {
  /** @param {number} layers that may be computed again, as few as the job needs */
  const most = (layers) => {
    for (let rows = MOST_ROWS; rows >= 1; rows /= 2) {
      const options = {
        kind: /** @type {const} */ ('cuda'),
        cardBytes: mebibytes * 2 ** 20,
        rank: RANK,
        rows,
        length: LENGTH,
      };
      const { peakOf, availableBytes } = memoryOnCard(planning, model, options);
      const fits = (/** @type {number} */ count) => peakOf(count) <= availableBytes;
      if (fits(planning.fewestRecomputed(layers, fits))) return String(rows);
    }
    return '–';
  };
  const [kept, recomputed] = [most(0), most(model.architecture.layerCount)];
  return recomputed === '–' ? '–' : `${kept}/${recomputed}`;
}
