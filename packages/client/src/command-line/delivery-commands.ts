import { type Delivery, type DeliveryTarget, ProductError } from '@lorasmith/contracts';
import { printable } from '../text-output.js';
import { type Command, type CommandContext, print, textTable } from './command.js';

export const DELIVERY_COMMANDS: Command[] = [
  {
    name: 'deliver',
    positionals: ['ID'],
    summary: 'Put an adapter onto a vLLM server that runs, or into a folder; what has the name is replaced',
    options: {
      vllm: { type: 'string', value: 'URL', help: 'the address of the server, one of DELIVERY_SERVERS of the service' },
      folder: { type: 'boolean', help: 'into the delivery folder of the service' },
      name: { type: 'string', help: 'the model name on the server, or the folder' },
      'per-expert': {
        type: 'boolean',
        help: 'an adapter of experts with matrices of each expert, as vLLM reads most families',
      },
      wait: { type: 'boolean', help: 'until it is delivered, or has failed' },
    },
    help: [
      'The server is asked with the probe of the adapter: delivered means that it answers with its numbers.',
      'With --wait, exits with 0 if it was delivered, with 1 otherwise.',
    ],
    run: deliver,
  },
  {
    name: 'deliveries list',
    positionals: ['ADAPTER'],
    summary: 'Deliveries of an adapter, newest first',
    async run(context) {
      const deliveries = await context.client.deliveries(context.positionals[0]!, context);
      const rows = deliveries.map((one) => [one.id, placeText(one.to), one.created_at, stateText(one)]);
      return print(context, deliveries, textTable(['ID', 'TO', 'CREATED', 'STATUS'], rows));
    },
  },
  {
    name: 'deliveries cancel',
    positionals: ['ID'],
    summary: 'Cancel a delivery; what was there before stays, or is restored',
    async run(context) {
      const delivery = await context.client.cancelDelivery(context.positionals[0]!, context);
      return print(
        context,
        delivery,
        delivery.ended_at === null ? `${delivery.id} is being cancelled` : stateText(delivery),
      );
    },
  },
];

async function deliver(context: CommandContext): Promise<number> {
  const { client, signal, values, positionals } = context;
  const asked = await client.deliver(positionals[0]!, targetOf(values), { signal });
  if (values.wait !== true) return print(context, asked, `${asked.id}  ${placeText(asked.to)}  ${asked.status}`);
  const delivery = await client.waitForDelivery(asked.id, { signal });
  print(context, delivery, `${placeText(delivery.to)}: ${stateText(delivery)}`);
  return delivery.status === 'delivered' ? 0 : 1;
}

/** @throws ProductError `invalid_request` for options that name no target, or two */
function targetOf({ vllm, folder, name, 'per-expert': perExpert }: Record<string, unknown>): DeliveryTarget {
  if ((vllm === undefined) === (folder !== true) || name === undefined) {
    const message = 'A delivery needs --name NAME, and either --vllm URL or --folder.';
    throw new ProductError('invalid_request', message, { param: name === undefined ? 'name' : 'vllm' });
  }
  const common = { name: name as string, ...(perExpert === true ? { layout: 'per-expert' as const } : {}) };
  return vllm === undefined ? { kind: 'folder', ...common } : { kind: 'vllm', url: vllm as string, ...common };
}

/** The place that a delivery goes to. */
function placeText(to: DeliveryTarget): string {
  return printable('url' in to ? `${to.name} at ${to.url}` : `folder ${to.name}`);
}

/** The state of a delivery in one line. */
function stateText({ status, error, probe, replaced }: Delivery): string {
  if (error !== null) return `${status} (${error.code}): ${printable(error.message)}`;
  const distance = probe?.adapter_distance;
  const facts = [
    ...(replaced === null ? [] : [`in place of ${replaced}`]),
    ...(distance == null ? [] : [`answers differ by ${distance.toFixed(3)} from the adapter's`]),
  ];
  return facts.length === 0 ? status : `${status}, ${facts.join(', ')}`;
}
