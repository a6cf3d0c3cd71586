import type { AdaptableModule } from '@lorasmith/contracts';

/** Layers that one name of `target_modules` selects, or parameters of experts that one of `target_parameters` does. */
export interface ModuleGroup {
  /** The last part of their names, such as `q_proj`; of parameters the last three, such as `mlp.experts.down_proj`. */
  name: string;
  layers: number;
  /** Each different shape, `[inputs, outputs]`. */
  shapes: [inputs: number, outputs: number][];
  /** Numbers of an adapter of rank 1 on all of them. */
  parametersPerRank: number;
}

/** The layers or parameters of a base model by the names that a job can give, in the order of the model. */
export function moduleGroups(modules: readonly AdaptableModule[]): ModuleGroup[] {
  const groups = new Map<string, ModuleGroup>();
  for (const { name: path, in_features: inputs, out_features: outputs, experts } of modules) {
    const name = path
      .split('.')
      .slice(experts === undefined ? -1 : -3)
      .join('.');
    const group = groups.get(name) ?? { name, layers: 0, shapes: [], parametersPerRank: 0 };
    groups.set(name, group);
    group.layers++;
    group.parametersPerRank += (experts ?? 1) * (inputs + outputs);
    if (!group.shapes.some(([one, other]) => one === inputs && other === outputs)) group.shapes.push([inputs, outputs]);
  }
  return [...groups.values()];
}
