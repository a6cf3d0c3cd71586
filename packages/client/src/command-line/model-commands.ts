import type { ModelPull } from '@lorasmith/contracts';
import { barText } from '../job-progress.js';
import { bytesText, countText, durationText, printable, redraw, type TextOutput } from '../text-output.js';
import { type Command, type CommandContext, print, textTable } from './command.js';

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

/** Time between lines in a file or pipe. On a terminal, the bar is redrawn. */
const PLAIN_LINE_INTERVAL_MS = 10_000;

/** The state of a pull in one line: what has arrived, the commit, or why it failed. */
function pullText(pull: ModelPull): string {
  const { status, error, commit, received_bytes: received, total_bytes: total } = pull;
  if (error !== null) return `${status} (${error.code}): ${printable(error.message)}`;
  if (status === 'succeeded') return `${bytesText(total)} of commit ${commit}`;
  return status === 'pulling' && total > 0 ? `${bytesText(received)} of ${bytesText(total)}` : status;
}

/** Shows a pull while it runs: on a terminal as a bar with speed and remaining time, elsewhere as lines. */
function createPullDisplay(output: TextOutput, now: () => number = Date.now) {
  let barIsOpen = false;
  let plainLineAt = Number.NEGATIVE_INFINITY;
  let first: { at: number; bytes: number } | undefined;
  return {
    show(pull: ModelPull): void {
      const { status, received_bytes: received, total_bytes: total } = pull;
      if (status !== 'pulling' || total === 0) return;
      first ??= { at: now(), bytes: received };
      const perSecond = (1000 * (received - first.bytes)) / Math.max(1, now() - first.at);
      const speed =
        perSecond > 0 ? `${bytesText(perSecond)}/s  ${durationText((total - received) / perSecond)} left` : '';
      const text = (columns: number) => barText(pullText(pull), received / total, speed, columns);
      if (output.isTTY) {
        redraw(output, text(output.columns || 80));
        barIsOpen = true;
      } else if (now() - plainLineAt >= PLAIN_LINE_INTERVAL_MS) {
        plainLineAt = now();
        output.write(`${text(100)}\n`);
      }
    },
    /** Ends the line of an open bar. */
    end(): void {
      if (barIsOpen) output.write('\n');
      barIsOpen = false;
    },
  };
}
