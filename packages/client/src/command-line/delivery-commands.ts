import { type Delivery, deliveryPlace, type HubToken, type OutsideTarget, ProductError } from '@lorasmith/contracts';
import { printable } from '../text-output.js';
import { type Command, type CommandContext, type CommandOptions, print, textTable } from './command.js';

/** The options that name a place. */
export const TARGET_OPTIONS = {
  vllm: { type: 'string', value: 'URL', help: 'the address of the server, one of DELIVERY_SERVERS of the service' },
  folder: { type: 'boolean', help: 'into the delivery folder of the service' },
  name: { type: 'string', help: 'the model name on the server, or the folder; what has it is replaced' },
  hub: { type: 'string', value: 'ORG/NAME', help: 'a repository of the hub, with the token of lora hub-token set' },
  revision: { type: 'string', value: 'BRANCH', help: 'a branch of the repository [main]' },
  public: { type: 'boolean', help: 'a repository that is made is public [private]' },
  s3: { type: 'string', value: 's3://BUCKET/PREFIX', help: 'a bucket, one of DELIVERY_BUCKETS of the service' },
  merged: { type: 'boolean', help: 'the merged model, on the hub or in a bucket' },
  'per-expert': {
    type: 'boolean',
    help: 'an adapter of experts with matrices of each expert, as vLLM reads most families',
  },
} as const satisfies CommandOptions;

export const DELIVERY_COMMANDS: Command[] = [
  {
    name: 'deliver',
    positionals: ['ID'],
    summary: 'Put an adapter onto a vLLM server that runs, into a folder, onto the Hugging Face hub or into a bucket',
    options: {
      ...TARGET_OPTIONS,
      wait: { type: 'boolean', help: 'until it is delivered, or has failed' },
    },
    help: [
      'The server is asked with the probe of the adapter: delivered means that it answers with its',
      'numbers. Elsewhere it means that the files are there with their digests.',
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
      return print(context, deliveries, deliveriesText(deliveries));
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
  {
    name: 'hub-token set',
    positionals: [],
    summary: 'Store the token with which your adapters are delivered to the Hugging Face hub',
    help: ['HF_TOKEN is the token. The service keeps it encrypted, and returns it to nobody.'],
    async run(context) {
      const token = context.hubEnvironment.HF_TOKEN;
      if (!token) throw new ProductError('invalid_request', 'Set HF_TOKEN to the token.', { param: 'HF_TOKEN' });
      const stored = await context.client.setHubToken(token, context);
      return print(context, stored, hubTokenText(stored));
    },
  },
  {
    name: 'hub-token show',
    positionals: [],
    summary: 'True if there is a token, and since when; never the token',
    async run(context) {
      const stored = await context.client.hubToken(context);
      return print(context, stored, hubTokenText(stored));
    },
  },
  {
    name: 'hub-token remove',
    positionals: [],
    summary: 'Remove the token of the hub from the service',
    async run(context) {
      await context.client.deleteHubToken(context);
      return print(
        context,
        { deleted: true },
        'The token is removed. On the hub it is valid until it is revoked there.',
      );
    },
  },
];

function hubTokenText({ stored_at }: HubToken): string {
  return stored_at === null ? 'There is no token.' : `There is a token, stored at ${stored_at}.`;
}

async function deliver(context: CommandContext): Promise<number> {
  const { client, signal, values, positionals } = context;
  const asked = await client.deliver(positionals[0]!, targetOf(values), { signal });
  if (values.wait !== true)
    return print(context, asked, `${asked.id}  ${printable(deliveryPlace(asked.to))}  ${asked.status}`);
  const delivery = await client.waitForDelivery(asked.id, { signal });
  print(context, delivery, `${printable(deliveryPlace(delivery.to))}: ${stateText(delivery)}`);
  return delivery.status === 'delivered' ? 0 : 1;
}

type DeliverOptions = {
  [Name in 'vllm' | 'name' | 'hub' | 'revision' | 's3']?: string;
} & { [Name in 'folder' | 'public' | 'merged' | 'per-expert']?: boolean };

/** The target that each option names, and the further options that belong to it. */
const TARGETS: {
  option: 'vllm' | 'folder' | 'hub' | 's3';
  takes: readonly (keyof DeliverOptions)[];
  of(values: DeliverOptions): OutsideTarget;
}[] = [
  {
    option: 'vllm',
    takes: ['name', 'per-expert'],
    of: (values) => ({ kind: 'vllm', url: values.vllm!, name: nameOf(values), ...layoutOf(values) }),
  },
  {
    option: 'folder',
    takes: ['name', 'per-expert'],
    of: (values) => ({ kind: 'folder', name: nameOf(values), ...layoutOf(values) }),
  },
  {
    option: 'hub',
    takes: ['merged', 'public', 'revision'],
    of: ({ hub, merged, public: isPublic, revision }) => ({
      kind: 'hub',
      repository: hub!,
      ...(merged ? { merged } : {}),
      ...(isPublic ? { private: false } : {}),
      ...(revision === undefined ? {} : { revision }),
    }),
  },
  {
    option: 's3',
    takes: ['merged', 'per-expert'],
    of: (values) => {
      const [, bucket, prefix] = /^(?:s3:\/\/)?([^/]+)\/(.+?)\/?$/.exec(values.s3!) ?? [];
      if (bucket === undefined || prefix === undefined) throw invalid('--s3 is s3://BUCKET/PREFIX.', 's3');
      return { kind: 's3', bucket, prefix, ...(values.merged ? { merged: true } : {}), ...layoutOf(values) };
    },
  },
];

/** @throws ProductError `invalid_request` for options that name no target, two, or what does not belong to it */
export function targetOf(values: DeliverOptions): OutsideTarget {
  const [target, ...more] = TARGETS.filter(({ option }) => values[option] !== undefined);
  if (target === undefined || more.length > 0) {
    throw invalid('A delivery needs one of --vllm URL, --folder, --hub ORG/NAME and --s3 s3://BUCKET/PREFIX.', 'vllm');
  }
  const all = new Set(TARGETS.flatMap(({ takes }) => takes));
  const foreign = [...all].find((option) => values[option] !== undefined && !target.takes.includes(option));
  if (foreign !== undefined) throw invalid(`--${foreign} is not an option of --${target.option}.`, foreign);
  return target.of(values);
}

function nameOf({ name }: DeliverOptions): string {
  if (name === undefined) throw invalid('--vllm and --folder need --name NAME.', 'name');
  return name;
}

function layoutOf({ 'per-expert': perExpert }: DeliverOptions): { layout?: 'per-expert' } {
  return perExpert === true ? { layout: 'per-expert' } : {};
}

function invalid(message: string, param: string): ProductError {
  return new ProductError('invalid_request', message, { param });
}

/** A line for each delivery. */
export function deliveriesText(deliveries: readonly Delivery[]): string {
  const rows = deliveries.map((one) => [one.id, printable(deliveryPlace(one.to)), one.created_at, stateText(one)]);
  return textTable(['ID', 'TO', 'CREATED', 'STATUS'], rows);
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
