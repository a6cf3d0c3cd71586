import { bytesText, countText } from '../human-units.js';
import { type Command, print } from './command.js';
import { textTable } from './text-table.js';

export const MODEL_COMMANDS: Command[] = [
  {
    name: 'models',
    positionals: [],
    summary: 'Base models on the host',
    async run(context) {
      const models = await context.client.models(context);
      const rows = models.map((model) => [
        model.name,
        model.family ?? '-',
        model.parameters === null ? '-' : countText(model.parameters),
        bytesText(model.bytes),
        model.dtype ?? '-',
        model.problem?.message ?? model.target_modules.join(','),
      ]);
      return print(context, models, textTable(['NAME', 'FAMILY', 'PARAMETERS', 'SIZE', 'DTYPE', 'TARGETS'], rows));
    },
  },
  {
    name: 'models show',
    positionals: ['NAME'],
    summary: 'One base model and the layers that LoRA can adapt',
    async run(context) {
      const model = await context.client.model(context.positionals[0]!, context);
      const rows = model.modules.map((module) => [module.name, module.in_features, module.out_features]);
      return print(context, model, textTable(['MODULE', 'IN', 'OUT'], rows));
    },
  },
];
