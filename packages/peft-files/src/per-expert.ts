import { ProductError } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { commonForm } from './common-scale.js';
import { moduleOf } from './expert-wrappers.js';
import { type PeftAdapter, type PeftModule, shownName } from './peft-adapter.js';

/** The projections of an expert whose rows, one after the other, are those of a parameter. */
const PROJECTIONS: Record<string, readonly string[]> = {
  gate_up_proj: ['gate_proj', 'up_proj'],
  down_proj: ['down_proj'],
};
const EXPERT_LAYER = /^((?:.*\.)?experts)\.(0|[1-9]\d{0,4})\.(gate_proj|up_proj|down_proj)$/s;

/**
 * The same adapter with a linear layer for each projection of each expert, for instance `model.layers.0.mlp.experts.7.up_proj`, as
 * vLLM and llama.cpp read adapters of experts. Gate and up have the same A.
 */
export function perExpert(adapter: PeftAdapter, { alternating }: RowsOfGateUp): PeftAdapter {
  const modules = [...adapter.modules].flatMap(([name, { experts, ...module }]): [string, PeftModule][] => {
    if (experts === undefined) return [[name, module]];
    const own = { ...module, experts };
    return projectionsOf(name, alternating && isGateUp(name) ? withRowsIn('halves', own) : own);
  });
  return { ...adapter, modules: new Map(modules) };
}

/** The layout of gate and up rows in a parameter of experts. */
export interface RowsOfGateUp {
  /** Each row of gate has its row of up behind it, as in gpt-oss; else the first half of the rows is of gate. */
  alternating: boolean;
}

/** The order of the rows in a base model. */
export function rowsOfGateUp({ architecture }: Pick<ModelFolder, 'architecture'>): RowsOfGateUp {
  return { alternating: architecture.kind === 'decoder' && architecture.mlp.clampedAt !== undefined };
}

function isGateUp(parameter: string): boolean {
  return parameter.endsWith('.gate_up_proj');
}

/** A parameter whose rows are in the other order. */
function withRowsIn<Module extends PeftModule>(order: 'halves' | 'alternating', module: Module): Module {
  const { rank, outFeatures } = module;
  const b = new Float32Array(module.b.length);
  for (let row = 0; row < b.length / rank; row++) {
    const within = row % outFeatures;
    const half = outFeatures / 2;
    const alternate = row - within + 2 * (within % half) + Math.floor(within / half);
    const [from, to] = order === 'halves' ? [alternate, row] : [row, alternate];
    b.set(pieceOf(module.b, from, rank), to * rank);
  }
  return { ...module, b };
}

function projectionsOf(
  parameter: string,
  { a, b, experts, ...sizes }: PeftModule & { experts: number },
): [string, PeftModule][] {
  const projections = PROJECTIONS[parameter.slice(parameter.lastIndexOf('.') + 1)]!;
  const outFeatures = sizes.outFeatures / projections.length;
  const layers: [string, PeftModule][] = [];
  for (let expert = 0; expert < experts; expert++) {
    const ofA = pieceOf(a, expert, sizes.rank * sizes.inFeatures); // [rank, in]
    for (const [index, projection] of projections.entries()) {
      const ofB = pieceOf(b, expert * projections.length + index, outFeatures * sizes.rank); // [out, rank]
      layers.push([`${moduleOf(parameter)}.${expert}.${projection}`, { ...sizes, outFeatures, a: ofA, b: ofB }]);
    }
  }
  return layers;
}

/**
 * The inverse of {@link perExpert}, also for adapters that were trained so: if A of gate and up differ, the parameter has both below
 * each other, with twice the rank, as PEFT reads such files. If ranks or scales differ between experts, they become the common
 * ones of {@link commonForm}.
 *
 * @throws ProductError invalid_adapter naming a layer of an expert that is missing, or has other sizes
 */
export function withFusedExperts(adapter: PeftAdapter, { alternating }: RowsOfGateUp): PeftAdapter {
  const modules = new Map<string, PeftModule>();
  const groups = new Map<string, { layers: Map<string, PeftModule>; experts: number }>();
  for (const [name, module] of adapter.modules) {
    const [, experts, index, projection] = EXPERT_LAYER.exec(name) ?? [];
    if (experts === undefined) {
      modules.set(name, module);
      continue;
    }
    const parameter = `${experts}.${projection === 'down_proj' ? projection : 'gate_up_proj'}`;
    const group = groups.get(parameter) ?? { layers: new Map(), experts: 0 };
    group.layers.set(name, module);
    groups.set(parameter, { ...group, experts: Math.max(group.experts, Number(index) + 1) });
  }
  for (const [parameter, { layers, experts }] of groups) {
    if (modules.has(parameter)) throw invalid(parameter, 'is there, and so are layers of its experts');
    const common = commonForm({ ...adapter, modules: layers }).modules;
    const whole = fused(layersOf(parameter, common, experts));
    modules.set(parameter, alternating && isGateUp(parameter) ? withRowsIn('alternating', whole) : whole);
  }
  return { ...adapter, modules };
}

/** The layers of each expert, in the order of their rows. @throws ProductError invalid_adapter */
function layersOf(parameter: string, layers: ReadonlyMap<string, PeftModule>, experts: number): PeftModule[][] {
  const projections = PROJECTIONS[parameter.slice(parameter.lastIndexOf('.') + 1)]!;
  const [first] = layers.values();
  return Array.from({ length: experts }, (_, expert) =>
    projections.map((projection) => {
      const name = `${moduleOf(parameter)}.${expert}.${projection}`;
      const layer = layers.get(name);
      if (layer === undefined) throw invalid(name, 'is missing; all experts of a layer are adapted, or none');
      if (layer.inFeatures === first!.inFeatures && layer.outFeatures === first!.outFeatures) return layer;
      throw invalid(name, 'has other sizes than the same layer of another expert');
    }),
  );
}

/** @param layers - Of each expert, all with the same sizes, rank and scale */
function fused(layers: readonly PeftModule[][]): PeftModule {
  const { rank, scale, inFeatures, outFeatures } = layers[0]![0]!;
  const count = layers[0]!.length;
  const sizes = { scale, inFeatures, outFeatures: count * outFeatures, experts: layers.length };
  const matricesB = layers.flat().map(({ b }) => b);
  if (layers.every(([one, ...others]) => others.every(({ a }) => isSame(one!.a, a)))) {
    return { ...sizes, rank, a: joined(layers.map(([one]) => one!.a)), b: joined(matricesB) };
  }
  // Of each expert A is [A₁; A₂], and B is [B₁ 0; 0 B₂].
  const a = joined(layers.flat().map((layer) => layer.a));
  const b = new Float32Array(layers.length * sizes.outFeatures * count * rank);
  for (const [place, matrix] of matricesB.entries()) {
    for (let row = 0; row < outFeatures; row++) {
      const to = ((place * outFeatures + row) * count + (place % count)) * rank;
      b.set(pieceOf(matrix, row, rank), to);
    }
  }
  return { ...sizes, rank: count * rank, a, b };
}

function pieceOf(values: Float32Array, index: number, size: number): Float32Array {
  return values.subarray(index * size, (index + 1) * size);
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

function isSame(one: Float32Array, other: Float32Array): boolean {
  return one.every((value, index) => Object.is(value, other[index]));
}

function invalid(name: string, fault: string): ProductError {
  const shown = shownName(name);
  return new ProductError('invalid_adapter', `adapter_model.safetensors: ${shown} ${fault}.`, { param: shown });
}
