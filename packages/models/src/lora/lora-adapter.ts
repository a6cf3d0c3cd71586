import { ofExpert, type PeftAdapter, type PeftModule } from '@lorasmith/peft-files';
import { SeededRandom } from '@lorasmith/seeded-random';
import { concat, dispose, keep, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import type { GroupModule, LinearGroup } from '../frozen-linear.js';
import type { ModelAdapter } from '../pass.js';
import { LoraGroup } from './lora-group.js';

/** A layer to adapt, or all experts of one. */
export interface LoraTarget {
  /** The layer's full name, or that of the parameter with the weights of the experts. */
  name: string;
  rank: number;
  /** The weight update is `scale · B A`. */
  scale: number;
}

export interface LoraOptions {
  targets: readonly LoraTarget[];
  dropout: number;
  seed: number;
  /** The initial matrices. It must contain the targets, with the same ranks and scales. */
  initial?: PeftAdapter | undefined;
}

interface AdaptedGroup {
  group: LinearGroup;
  lora: LoraGroup;
  modules: (LoraTarget & GroupModule)[];
}

/**
 * LoRA for a model's layers. All trainable parameters are one float32 vector: for each group, the layers' A `[Σ rank, in]`,
 * then each layer's B `[out, rank]`. The optimizer, gradient clipping and checkpoints use only this vector.
 */
export class LoraAdapter implements ModelAdapter {
  readonly dropout: number;
  readonly #adapted: readonly AdaptedGroup[];
  readonly #byGroup: ReadonlyMap<LinearGroup, LoraGroup>;
  #parameters: Tensor;

  /** @param groups the model's groups of linear layers; they are not changed */
  constructor(groups: readonly LinearGroup[], options: LoraOptions) {
    this.dropout = options.dropout;
    this.#adapted = adaptedGroups(groups, options);
    this.#byGroup = new Map(this.#adapted.map(({ group, lora }) => [group, lora]));
    const start = initialParameters(this.#adapted, options);
    const count = this.#adapted.reduce((sum, { lora }) => sum + lora.parameterCount, 0);
    if (start.length !== count) throw new Error(`${start.length} initial numbers given for ${count} parameters`);
    this.#parameters = keep(tensorOf(start, [start.length]));
    this.#distribute();
  }

  at(group: LinearGroup): LoraGroup | null {
    return this.#byGroup.get(group) ?? null;
  }

  /** `[parameterCount]` float32; the adapter owns it. */
  get parameters(): Tensor {
    return this.#parameters;
  }

  get parameterCount(): number {
    return this.#parameters.size;
  }

  /** Names of the adapted layers, and of the parameters of adapted experts. */
  get modules(): string[] {
    return [...new Set(this.#adapted.flatMap(({ modules }) => modules.map(({ name }) => name)))];
  }

  /** Replaces all parameters; the adapter takes ownership of the tensor. */
  setParameters(parameters: Tensor): void {
    if (parameters.size !== this.parameterCount) {
      throw new Error(`${parameters.size} numbers given for ${this.parameterCount} parameters`);
    }
    dispose(this.#parameters);
    this.#parameters = keep(parameters);
    this.#distribute();
  }

  /**
   * The gradient since the last call, as one vector `[parameterCount]` float32; the caller disposes it. It is zero for groups
   * that no backward pass has reached, for instance if this adapter has no labels in a pass of several adapters.
   */
  takeGradient(): Tensor {
    const isReached = this.#adapted.some(({ lora }) => lora.isReached);
    const parts = this.#adapted.map(({ lora }) =>
      isReached && !lora.isReached ? lora.zeroGradient() : lora.takeGradient(),
    );
    const gradient = concat(parts, 0);
    dispose(parts);
    return gradient;
  }

  /** Drops what backward passes have left since the last {@link takeGradient}: one of them was interrupted. */
  dropGradient(): void {
    for (const { lora } of this.#adapted) lora.dropGradient();
  }

  /**
   * Layers at which a pass without dropout is another computation with the other adapter: their matrices in the engine, in the
   * model's dtype, are not the same bits.
   * @param other of the same model
   * @returns names of the first such layers, which are computed together; empty if there are none
   */
  differingModules(other: LoraAdapter): string[] {
    const groups = new Set([...this.#byGroup.keys(), ...other.#byGroup.keys()]);
    for (const group of groups) {
      const [own, theirs] = [this.at(group), other.at(group)];
      if (own === null || theirs === null || !own.hasWeightsOf(theirs)) return group.modules.map(({ name }) => name);
    }
    return [];
  }

  /** The current matrices. */
  toPeft(baseModelNameOrPath: string | null): PeftAdapter {
    const modules = matrices(this.#adapted, toFloat32Array(this.#parameters));
    return { dropout: this.dropout, modules, baseModelNameOrPath };
  }

  /**
   * The factor of each parameter's learning rate for LoRA+ (Hayou et al. 2024, arXiv:2402.12354).
   * @returns `[parameterCount]`: 1 for A, the ratio for B
   */
  learningRateFactors(ratioOfB: number): Float32Array {
    const factors = new Float32Array(this.parameterCount);
    let offset = 0;
    for (const { group, modules } of this.#adapted) {
      for (const { rank } of modules) {
        factors.fill(1, offset, offset + rank * group.linear.inFeatures);
        offset += rank * group.linear.inFeatures;
      }
      for (const { rank, outFeatures } of modules) {
        factors.fill(ratioOfB, offset, offset + outFeatures * rank);
        offset += outFeatures * rank;
      }
    }
    return factors;
  }

  /** The matrices of a vector in this adapter's layout, for instance a gradient. */
  matricesOf(vector: Tensor): Map<string, PeftModule> {
    return matrices(this.#adapted, toFloat32Array(vector));
  }

  /** Disposes the adapter's tensors. */
  dispose(): void {
    for (const { lora } of this.#adapted) lora.dispose();
    dispose(this.#parameters);
  }

  #distribute(): void {
    for (const { lora } of this.#adapted) lora.setWeights(this.#parameters);
  }
}

function adaptedGroups(groups: readonly LinearGroup[], options: LoraOptions): AdaptedGroup[] {
  const targets = new Map(options.targets.map((target) => [target.name, target]));
  for (const target of options.targets) checkInitial(target, options.initial);
  const missing = new Set(targets.keys());
  const adapted: AdaptedGroup[] = [];
  let offset = 0;
  for (const group of groups) {
    let firstRow = 0;
    const modules: (AdaptedGroup['modules'][number] & { firstRow: number })[] = [];
    for (const module of group.modules) {
      const target = targets.get(module.name);
      if (target !== undefined) modules.push({ ...target, ...module, firstRow });
      missing.delete(module.name);
      firstRow += module.outFeatures;
    }
    if (modules.length === 0) continue;
    const lora = new LoraGroup(group, modules, { dropout: options.dropout, index: adapted.length, offset });
    offset += lora.parameterCount;
    adapted.push({ group, lora, modules });
  }
  if (missing.size > 0) throw new Error(`the model has no layers ${[...missing].join(', ')}`);
  if (adapted.length === 0) throw new Error('no layer to adapt');
  return adapted;
}

function checkInitial({ name, rank, scale }: LoraTarget, initial: PeftAdapter | undefined): void {
  if (initial === undefined) return;
  const module = initial.modules.get(name);
  if (module === undefined) throw new Error(`the initial adapter has nothing for ${name}`);
  if (module.rank !== rank || module.scale !== scale) {
    throw new Error(`the initial adapter has another rank or scale for ${name}`);
  }
}

function initialParameters(adapted: readonly AdaptedGroup[], options: LoraOptions): Float32Array {
  const parts: Float32Array[] = [];
  for (const { group, modules } of adapted) {
    const { inFeatures } = group.linear;
    for (const { name, rank, expert } of modules) {
      const label = expert === undefined ? name : `${name}.${expert.index}`;
      parts.push(givenTo({ name, expert }, options)?.a ?? initialA(rank, inFeatures, options.seed, label));
    }
    for (const { name, rank, outFeatures, expert } of modules) {
      parts.push(givenTo({ name, expert }, options)?.b ?? new Float32Array(outFeatures * rank));
    }
  }
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

/** The initial matrices of a layer or of one expert; undefined without an initial adapter. */
function givenTo(
  { name, expert }: Pick<GroupModule, 'name' | 'expert'>,
  { initial }: LoraOptions,
): PeftModule | undefined {
  const given = initial?.modules.get(name);
  return given === undefined || expert === undefined ? given : ofExpert(given, expert.index);
}

/**
 * The initial A: Kaiming-uniform with a = √5, as in PEFT and the paper's code (torch.nn.init.kaiming_uniform_). The numbers
 * are uniform in ±1/√in. B starts at zero, so training starts from the base model.
 *
 * @param module its full name; seed and name determine the numbers, whichever other layers are adapted
 * @returns `[rank, in]`
 */
export function initialA(rank: number, inFeatures: number, seed: number, module: string): Float32Array {
  const values = new Float32Array(rank * inFeatures);
  new SeededRandom(seed, `lora_A of ${module}`).fillUniform(values, 1 / Math.sqrt(inFeatures));
  return values;
}

function matrices(adapted: readonly AdaptedGroup[], vector: Float32Array): Map<string, PeftModule> {
  const found = new Map<string, PeftModule>();
  let offset = 0;
  const take = (size: number) => {
    offset += size;
    return vector.slice(offset - size, offset);
  };
  for (const { group, modules } of adapted) {
    const inFeatures = group.linear.inFeatures;
    const a = modules.map(({ rank }) => take(rank * inFeatures));
    for (const [i, { name, rank, scale, outFeatures, expert }] of modules.entries()) {
      const own = { a: a[i]!, b: take(outFeatures * rank), rank, scale, inFeatures, outFeatures };
      if (expert === undefined) found.set(name, own);
      else found.set(name, withExpert(found.get(name), own, expert));
    }
  }
  return found;
}

/** The matrices of all experts with those of one set. @param others of the experts before it */
function withExpert(
  others: PeftModule | undefined,
  own: PeftModule,
  { index, count }: NonNullable<GroupModule['expert']>,
): PeftModule {
  const all = others ?? {
    ...own,
    a: new Float32Array(count * own.a.length),
    b: new Float32Array(count * own.b.length),
    experts: count,
  };
  all.a.set(own.a, index * own.a.length);
  all.b.set(own.b, index * own.b.length);
  return all;
}
