import type { ProjectionSlot } from '@lorasmith/models';
import { concat, dispose, keep, reshape, scope, split, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { initialA } from './initialise.js';
import { LoraProjection } from './lora-projection.js';
import type { PeftAdapter, PeftModule } from './peft-adapter.js';

/** A layer to adapt. */
export interface LoraTarget {
  /** Full name. */
  name: string;
  rank: number;
  /** Its update is `scale · B A`. */
  scale: number;
}

export interface LoraOptions {
  targets: readonly LoraTarget[];
  dropout: number;
  seed: number;
  /** Start from these matrices. It must hold the targets, with the same ranks and scales. */
  initial?: PeftAdapter | undefined;
}

interface Attached {
  slot: ProjectionSlot;
  projection: LoraProjection;
  modules: (LoraTarget & { outFeatures: number })[];
}

/**
 * LoRA on a model's layers. All trained numbers are one float32 vector: for each place its layers' A `[Σ rank, in]`,
 * then each layer's B `[out, rank]`; the optimizer, clipping and checkpoints see only the vector.
 */
export class LoraAdapter {
  readonly dropout: number;
  readonly #attached: Attached[];
  readonly #shapes: number[][];
  #parameters: Tensor;

  constructor(slots: readonly ProjectionSlot[], options: LoraOptions) {
    this.dropout = options.dropout;
    this.#attached = projectionsFor(slots, options);
    this.#shapes = this.#attached.flatMap(({ slot, modules }) => [
      [modules.reduce((sum, { rank }) => sum + rank, 0), slot.inFeatures],
      ...modules.map(({ outFeatures, rank }) => [outFeatures, rank]),
    ]);
    const start = initialParameters(this.#attached, options);
    this.#parameters = keep(tensorOf(start, [start.length]));
    try {
      this.#distribute();
    } catch (error) {
      this.detach();
      throw error;
    }
    // Last, so that whatever goes wrong leaves the model as it was.
    for (const { slot, projection } of this.#attached) slot.projection = projection;
  }

  /** `[parameterCount]` float32, the adapter's own. */
  get parameters(): Tensor {
    return this.#parameters;
  }

  get parameterCount(): number {
    return this.#parameters.size;
  }

  /** Names of the adapted layers. */
  get modules(): string[] {
    return this.#attached.flatMap(({ modules }) => modules.map(({ name }) => name));
  }

  /** Replaces all trained numbers; the adapter takes the tensor over. */
  setParameters(parameters: Tensor): void {
    if (parameters.size !== this.parameterCount) {
      throw new Error(`${parameters.size} numbers given for ${this.parameterCount} parameters`);
    }
    dispose(this.#parameters);
    this.#parameters = keep(parameters);
    this.#distribute();
  }

  /** Gradient of everything since the last call, as one vector `[parameterCount]` float32; the caller's to free. */
  takeGradient(): Tensor {
    const pieces = this.#attached.flatMap(({ projection }) => projection.takeGradients());
    const gradient = scope(() =>
      concat(
        pieces.map((piece) => reshape(piece, [piece.size])),
        0,
      ),
    );
    dispose(pieces);
    return gradient;
  }

  /** Makes the dropout of the next pass depend on where in the training it is, and on nothing else. */
  seedDropout(seed: number, pass: number): void {
    for (const [place, { projection }] of this.#attached.entries()) {
      projection.dropoutSeed = [(seed ^ Math.imul(place + 1, 0x9e3779b1)) & 0x7fffffff, pass & 0x7fffffff];
    }
  }

  /** The matrices as they are now. */
  toPeft(baseModelNameOrPath: string | null): PeftAdapter {
    const modules = matrices(this.#attached, toFloat32Array(this.#parameters));
    return { dropout: this.dropout, modules, baseModelNameOrPath };
  }

  /**
   * For LoRA+ (Hayou et al. 2024, arXiv:2402.12354): what the learning rate of each number is multiplied with.
   * @returns `[parameterCount]`: 1 for A, the ratio for B
   */
  learningRateFactors(ratioOfB: number): Float32Array {
    const factors = new Float32Array(this.parameterCount);
    let offset = 0;
    for (const { slot, modules } of this.#attached) {
      for (const { rank } of modules) {
        factors.fill(1, offset, offset + rank * slot.inFeatures);
        offset += rank * slot.inFeatures;
      }
      for (const { rank, outFeatures } of modules) {
        factors.fill(ratioOfB, offset, offset + outFeatures * rank);
        offset += outFeatures * rank;
      }
    }
    return factors;
  }

  /** The same for another vector of this adapter's layout, for instance a gradient. */
  matricesOf(vector: Tensor): Map<string, PeftModule> {
    return matrices(this.#attached, toFloat32Array(vector));
  }

  /** The model computes as its base again; the adapter's tensors are freed. */
  detach(): void {
    for (const { slot, projection } of this.#attached) {
      if (slot.projection === projection) slot.projection = slot.frozen;
      projection.dispose();
    }
    dispose(this.#parameters);
  }

  #distribute(): void {
    scope(() => {
      const sizes = this.#shapes.map((shape) => shape[0]! * shape[1]!);
      const pieces = split(this.#parameters, sizes, 0).map((piece, i) => reshape(piece, this.#shapes[i]!));
      for (const { projection, modules } of this.#attached) {
        projection.setWeights(pieces.shift()!, pieces.splice(0, modules.length));
      }
    });
  }
}

/** What is to be put into the slots; they are left as they are. */
function projectionsFor(slots: readonly ProjectionSlot[], options: LoraOptions): Attached[] {
  const targets = new Map(options.targets.map((target) => [target.name, target]));
  for (const target of options.targets) checkInitial(target, options.initial);
  const attached: Attached[] = [];
  for (const slot of slots) {
    let firstRow = 0;
    const modules: (Attached['modules'][number] & { firstRow: number })[] = [];
    for (const { name, outFeatures } of slot.modules) {
      const target = targets.get(name);
      if (target !== undefined) modules.push({ ...target, outFeatures, firstRow });
      targets.delete(name);
      firstRow += outFeatures;
    }
    if (modules.length === 0) continue;
    const projection = new LoraProjection(slot.frozen, modules, { dropout: options.dropout });
    attached.push({ slot, projection, modules });
  }
  if (targets.size > 0) throw new Error(`the model has no layers ${[...targets.keys()].join(', ')}`);
  if (attached.length === 0) throw new Error('no layer to adapt');
  return attached;
}

function checkInitial({ name, rank, scale }: LoraTarget, initial: PeftAdapter | undefined): void {
  if (initial === undefined) return;
  const module = initial.modules.get(name);
  if (module === undefined) throw new Error(`the initial adapter has nothing for ${name}`);
  if (module.rank !== rank || module.scale !== scale) {
    throw new Error(`the initial adapter has another rank or scale for ${name}`);
  }
}

function initialParameters(attached: readonly Attached[], options: LoraOptions): Float32Array {
  const pieces: Float32Array[] = [];
  for (const { slot, modules } of attached) {
    for (const { name, rank } of modules) {
      pieces.push(options.initial?.modules.get(name)?.a ?? initialA(rank, slot.inFeatures, options.seed, name));
    }
    for (const { name, rank, outFeatures } of modules) {
      pieces.push(options.initial?.modules.get(name)?.b ?? new Float32Array(outFeatures * rank));
    }
  }
  const all = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    all.set(piece, offset);
    offset += piece.length;
  }
  return all;
}

function matrices(attached: readonly Attached[], vector: Float32Array): Map<string, PeftModule> {
  const found = new Map<string, PeftModule>();
  let offset = 0;
  const take = (size: number) => {
    offset += size;
    return vector.slice(offset - size, offset);
  };
  for (const { slot, modules } of attached) {
    const inFeatures = slot.inFeatures;
    const a = modules.map(({ rank }) => take(rank * inFeatures));
    for (const [i, { name, rank, scale, outFeatures }] of modules.entries()) {
      found.set(name, { a: a[i]!, b: take(outFeatures * rank), rank, scale, inFeatures, outFeatures });
    }
  }
  return found;
}
