import { createPullDisplay, pullText } from '../pull-progress.js';
import { bytesText, countText } from '../text-output.js';
import { type Command, type CommandContext, print } from './command.js';
import { textTable } from './output.js';

export const MODEL_COMMANDS: Command[] = [
  {
    name: 'models list',
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
      const { modules, expert_parameters: ofExperts } = model;
      const rows = modules.map((module) => [module.name, module.in_features, module.out_features]);
      const more = ofExperts.map(({ name, in_features, out_features, experts = 1 }) => [
        name,
        in_features,
        out_features,
        experts,
      ]);
      const tables = [textTable(['MODULE', 'IN', 'OUT'], rows)];
      if (more.length > 0) tables.push(textTable(['PARAMETER', 'IN', 'OUT', 'EXPERTS'], more));
      return print(context, model, tables.join('\n\n'));
    },
  },
  {
    name: 'models pull',
    positionals: ['ORG/NAME'],
    summary: 'Fetch a base model from the Hugging Face hub; Ctrl-C stops watching, not the pull',
    options: {
      revision: { type: 'string', help: 'a branch, a tag or a commit [main]' },
      name: { type: 'string', help: 'the name of the base model here [the name of the repository]' },
      detach: { type: 'boolean', help: 'return at once; lora models pulls shows the progress' },
    },
    run: pullModel,
  },
  {
    name: 'models pulls',
    positionals: [],
    summary: 'Pulls of base models, newest first',
    async run(context) {
      const pulls = await context.client.modelPulls(context);
      const rows = pulls.map((pull) => [pull.id, pull.name, pull.repo, pull.revision, pullText(pull)]);
      return print(context, pulls, textTable(['ID', 'NAME', 'REPOSITORY', 'REVISION', 'STATUS'], rows));
    },
  },
  {
    name: 'models cancel-pull',
    positionals: ['ID'],
    summary: 'Stop a pull and remove what has arrived',
    async run(context) {
      const pull = await context.client.cancelModelPull(context.positionals[0]!, context);
      return print(context, pull, pull.ended_at === null ? `${pull.id} is being cancelled` : pullText(pull));
    },
  },
];

async function pullModel(context: CommandContext): Promise<number> {
  const { client, output, signal, json, values, positionals } = context;
  const { revision, name, detach } = values as { revision?: string; name?: string; detach?: boolean };
  const request = {
    repo: positionals[0]!,
    ...(revision === undefined ? {} : { revision }),
    ...(name === undefined ? {} : { name }),
  };
  const begun = await client.pullModel(request, { signal });
  if (detach) return print(context, begun, `${begun.id}  ${begun.name}  ${begun.status}`);
  const display = createPullDisplay(output);
  try {
    const pull = await client.waitForPull(begun.id, { signal, onProgress: json ? undefined : display.show });
    display.end();
    if (json) print(context, pull, '');
    else output.write(`${pull.name}: ${pullText(pull)}\n`);
    return pull.status === 'succeeded' ? 0 : 1;
  } finally {
    display.end();
  }
}
