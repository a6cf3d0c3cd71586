import type { AdaptableModule } from '@lorasmith/contracts';

/** Layers that one name of `target_modules` selects. */
export interface ModuleGroup {
  /** The last part of their names, such as `q_proj`. */
  name: string;
  layers: number;
  /** Each different shape, `[inputs, outputs]`. */
  shapes: [inputs: number, outputs: number][];
  /** Numbers of an adapter of rank 1 on all of them. */
  parametersPerRank: number;
}

/** The layers of a base model by the names that a job can give, in the order of the model. */
export function moduleGroups(modules: readonly AdaptableModule[]): ModuleGroup[] {
  const groups = new Map<string, ModuleGroup>();
  for (const { name: path, in_features: inputs, out_features: outputs } of modules) {
    const name = path.slice(path.lastIndexOf('.') + 1);
    const group = groups.get(name) ?? { name, layers: 0, shapes: [], parametersPerRank: 0 };
    groups.set(name, group);
    group.layers++;
    group.parametersPerRank += inputs + outputs;
    if (!group.shapes.some(([one, other]) => one === inputs && other === outputs)) group.shapes.push([inputs, outputs]);
  }
  return [...groups.values()];
}
