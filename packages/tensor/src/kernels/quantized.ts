import { add, multiply } from '../arithmetic.js';
import { elementType, execute } from '../execute.js';
import { concat, gather, pad, reshape, slice } from '../layout.js';
import { dispose, keep, scope, type Tensor } from '../tensor.js';
import { bytesAsFloat32, cast, tensorOf } from '../transfer.js';
import type { PackedMatrix } from './packed-matrix.js';

// Weights in 4 bits as bitsandbytes stores them (Dettmers et al. 2023, arXiv:2305.14314).

/** Numbers that share a scale. */
const BLOCK = 64;
/** Scales that share a scale. */
const NESTED_BLOCK = 256;
const CODES = 16;
const SCALE_CODES = 256;

/** Weights that lie one below the other, each quantized by itself. */
export interface QuantizedModule {
  /** Its rows. */
  rows: number;
  /** `[16]`: what its codes stand for. */
  values: Float32Array;
  /** A scale is `values[code] · its own scale + offset`; null where scales are float32. For all modules or none. */
  nested: { values: Float32Array; offset: number } | null;
}

/** The numbers of a module for the ops, in the order of native/quantized_matrix.h: first row, first scale of scales, offset, both tables. */
const MODULE_NUMBERS = 3 + CODES + SCALE_CODES;

/** `[rows, columns]` in 4 bits. Number i of a module is `values[code i] · scale of its block`, each product rounded to float32. */
export class QuantizedMatrix implements PackedMatrix {
  readonly ops = {
    ...{ product: 'LorasmithQuantizedProduct', groupedProduct: 'LorasmithGroupedQuantizedProduct' },
    ...{ adaptedForward: 'LorasmithAdaptedQuantizedForward', adaptedBackward: 'LorasmithAdaptedQuantizedBackward' },
    ...{ dequantize: 'LorasmithDequantize', attributes: [] },
  };
  readonly rows: number;
  readonly columns: number;
  readonly modules: readonly QuantizedModule[];
  /** `[bytes]` uint8: two codes each, the first in the upper half. */
  readonly codes: Tensor;
  /** `[scales]` uint8 with double quantization, else `[scales, 4]`, the bytes of float32. */
  readonly scales: Tensor;
  /** `[n]` float32, those of each module behind those of the one before; null without double quantization. */
  readonly nestedScales: Tensor | null;
  /** `[modules, MODULE_NUMBERS]` float32. */
  readonly table: Tensor;

  /**
   * Takes the tensors over. The number of columns is a multiple of 64, so that no block crosses a row, or there is one module that
   * is decoded as a whole only.
   */
  constructor(
    columns: number,
    modules: readonly QuantizedModule[],
    tensors: { codes: Tensor; scales: Tensor; nestedScales: Tensor | null },
  ) {
    this.rows = modules.reduce((sum, { rows }) => sum + rows, 0);
    this.columns = columns;
    this.modules = modules;
    this.codes = tensors.codes;
    this.scales = tensors.scales;
    this.nestedScales = tensors.nestedScales;
    this.table = keep(tableOf(columns, modules));
    if (modules.length > 1 && columns % BLOCK !== 0) throw new Error('blocks of several modules would cross rows');
  }

  get inputs(): Tensor[] {
    return [this.codes, this.scales, this.nestedScales ?? noScales(), this.table];
  }

  decodedRows(first: number, count: number): Tensor {
    return decodedRows(this, first, count);
  }

  dispose(): void {
    dispose([this.codes, this.scales, this.nestedScales, this.table]);
  }
}

function noScales(): Tensor {
  return tensorOf(new Float32Array(0), [0]);
}

const scalesOf = (rows: number, columns: number) => Math.ceil((rows * columns) / BLOCK);

function tableOf(columns: number, modules: readonly QuantizedModule[]): Tensor {
  const numbers = new Float32Array(modules.length * MODULE_NUMBERS);
  let firstRow = 0;
  let firstNested = 0;
  for (const [i, { rows, values, nested }] of modules.entries()) {
    const own = numbers.subarray(i * MODULE_NUMBERS);
    own.set([firstRow, firstNested, nested?.offset ?? 0]);
    own.set(values, 3);
    if (nested !== null) own.set(nested.values, 3 + CODES);
    firstRow += rows;
    firstNested += Math.ceil(scalesOf(rows, columns) / NESTED_BLOCK);
  }
  return tensorOf(numbers, [modules.length, MODULE_NUMBERS]);
}

function decodedRows(weights: QuantizedMatrix, first: number, count: number): Tensor {
  return scope(() => {
    const { columns, modules, codes } = weights;
    const parts: Tensor[] = [];
    let row = 0;
    let firstNested = 0;
    for (const module of modules) {
      const [from, to] = [Math.max(row, first), Math.min(row + module.rows, first + count)];
      const scales = scalesOf(module.rows, columns);
      if (from < to) {
        const part = scope(() => {
          const own = moduleScales(weights, module, (row * columns) / BLOCK, firstNested);
          const numbers = (to - from) * columns;
          const blocks = Math.ceil(numbers / BLOCK);
          const indices = indicesOf(slice(codes, [(from * columns) / 2], [Math.ceil(numbers / 2)]), numbers);
          const values = gather(tensorOf(module.values, [CODES]), indices);
          const padded = reshape(pad(values, [[0, blocks * BLOCK - numbers]]), [blocks, BLOCK]);
          const ofBlocks = reshape(slice(own, [((from - row) * columns) / BLOCK], [blocks]), [blocks, 1]);
          const decoded = slice(reshape(multiply(padded, ofBlocks), [-1]), [0], [numbers]);
          return reshape(decoded, [to - from, columns]);
        });
        parts.push(part);
      }
      row += module.rows;
      firstNested += Math.ceil(scales / NESTED_BLOCK);
    }
    return concat(parts, 0);
  });
}

/** The codes of `count` numbers, `[count]` int32. */
function indicesOf(bytes: Tensor, count: number): Tensor {
  const all = cast(bytes, 'int32');
  const upper = execute('FloorDiv', [elementType(all)], [all, tensorOf(Int32Array.of(16), [])]);
  const lower = execute('FloorMod', [elementType(all)], [all, tensorOf(Int32Array.of(16), [])]);
  const pairs = concat([reshape(upper, [-1, 1]), reshape(lower, [-1, 1])], 1);
  return slice(reshape(pairs, [-1]), [0], [count]);
}

/** The scales of a module, `[blocks]` float32. */
function moduleScales(weights: QuantizedMatrix, module: QuantizedModule, first: number, firstNested: number): Tensor {
  const { columns, scales, nestedScales } = weights;
  const count = scalesOf(module.rows, columns);
  const { nested } = module;
  if (nested === null || nestedScales === null) {
    return reshape(bytesAsFloat32(slice(scales, [first, 0], [count, 4])), [count]);
  }
  const groups = Math.ceil(count / NESTED_BLOCK);
  const values = gather(tensorOf(nested.values, [SCALE_CODES]), cast(slice(scales, [first], [count]), 'int32'));
  const padded = reshape(pad(values, [[0, groups * NESTED_BLOCK - count]]), [groups, NESTED_BLOCK]);
  const ofGroups = reshape(slice(nestedScales, [firstNested], [groups]), [groups, 1]);
  const products = slice(reshape(multiply(padded, ofGroups), [-1]), [0], [count]);
  return add(products, tensorOf(Float32Array.of(nested.offset), []));
}
