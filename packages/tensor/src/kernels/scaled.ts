import { multiply } from '../arithmetic.js';
import { intAttribute } from '../execute.js';
import { gather, pad, reshape, slice } from '../layout.js';
import { dispose, keep, scope, type Tensor } from '../tensor.js';
import { cast, onDevice, tensorOf } from '../transfer.js';
import type { PackedMatrix } from './packed-matrix.js';

// Weights in numbers of 8 bits (E4M3 without infinities, Micikevicius et al. 2022, arXiv:2209.05433) with scales for blocks.

/** Weights that lie one below the other, each with blocks of its own. */
export interface ScaledModule {
  rows: number;
  /** Rows of a block. */
  blockRows: number;
  /** `[blocks of rows, blocks of columns]`: the last ones may be short. */
  scales: Float32Array;
}

const LEAST_BLOCK_SHIFT = 5;
/** The shift of blocks that reach over the whole row: native/ops/quantized/packed_operands.h. */
const WHOLE_ROW_SHIFT = 62;

/** `[rows, columns]` in 8 bits. A number is that of its byte times the scale of its block, rounded to float32. */
export class ScaledMatrix implements PackedMatrix {
  readonly rows: number;
  readonly columns: number;
  readonly ops: PackedMatrix['ops'];
  /** `[rows · columns]` uint8. */
  readonly codes: Tensor;
  /** `[bands, blocks of columns]` float32: a band is a block of rows of one module. */
  readonly scales: Tensor;
  /** `[rows]` int32: the band of each row. */
  readonly bands: Tensor;
  readonly #blockColumns: number;

  /**
   * Takes the codes over.
   * @param blockColumns of a block: a power of two that is at least 32, or at least all columns
   */
  constructor(columns: number, blockColumns: number, modules: readonly ScaledModule[], codes: Tensor) {
    const shift = blockColumns >= columns ? WHOLE_ROW_SHIFT : Math.log2(blockColumns);
    if (!Number.isInteger(shift) || shift < LEAST_BLOCK_SHIFT) throw new Error(`a block of ${blockColumns} columns`);
    this.rows = modules.reduce((sum, { rows }) => sum + rows, 0);
    this.columns = columns;
    this.#blockColumns = Math.min(blockColumns, columns);
    const attributes = [intAttribute('block_shift', shift)];
    this.ops = {
      ...{ product: 'LorasmithScaledProduct', groupedProduct: 'LorasmithGroupedScaledProduct' },
      ...{ adaptedForward: 'LorasmithAdaptedScaledForward', adaptedBackward: 'LorasmithAdaptedScaledBackward' },
      ...{ dequantize: 'LorasmithDequantizeScaled', attributes },
    };
    this.codes = codes;
    const across = Math.ceil(columns / blockColumns);
    const all = modules.flatMap(({ scales }) => [...scales]);
    this.scales = keep(tensorOf(Float32Array.from(all), [all.length / across, across]));
    const bands = new Int32Array(this.rows);
    let row = 0;
    let first = 0;
    for (const module of modules) {
      for (let i = 0; i < module.rows; i++) bands[row++] = first + Math.floor(i / module.blockRows);
      first += Math.ceil(module.rows / module.blockRows);
    }
    if (first * across !== all.length) throw new Error(`${all.length} scales for ${first * across} blocks`);
    this.bands = keep(scope(() => onDevice(tensorOf(bands, [this.rows]))));
  }

  get inputs(): Tensor[] {
    return [this.codes, this.scales, this.bands];
  }

  decodedRows(first: number, count: number): Tensor {
    const { columns } = this;
    const across = this.scales.shape[1]!;
    const indices = cast(slice(this.codes, [first * columns], [count * columns]), 'int32');
    const numbers = reshape(gather(tensorOf(E4M3_VALUES, [256]), indices), [count, columns]);
    const padding = across * this.#blockColumns - columns;
    const padded = reshape(
      pad(numbers, [
        [0, 0],
        [0, padding],
      ]),
      [count, across, this.#blockColumns],
    );
    const scales = reshape(gather(this.scales, slice(this.bands, [first], [count])), [count, across, 1]);
    const decoded = reshape(multiply(padded, scales), [count, across * this.#blockColumns]);
    return slice(decoded, [0, 0], [count, columns]);
  }

  dispose(): void {
    dispose(this.inputs);
  }
}

/** The number of each byte, by its sign, exponent and mantissa. */
const E4M3_VALUES = Float32Array.from({ length: 256 }, (_, byte) => {
  const exponent = (byte >> 3) & 15;
  const mantissa = byte & 7;
  const isNumber = (byte & 127) !== 127;
  const size = exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10);
  return isNumber ? (byte < 128 ? size : -size) : Number.NaN;
});
