import { type Alias, type AliasMove, type MoveAliasRequest, ProductError } from '@lorasmith/contracts';
import type { AliasOptions } from '../client.js';
import { type Command, type CommandContext, type CommandOptions, print, textTable } from './command.js';
import { deliveriesText, TARGET_OPTIONS, targetOf } from './delivery-commands.js';
import { given } from './details-commands.js';

const OWNER_OPTION = {
  owner: { type: 'string', value: 'KEY', help: "the id of the key whose names are meant, or none [this key's]" },
} as const satisfies CommandOptions;

const MOVE_OPTIONS = {
  ...OWNER_OPTION,
  'if-version': { type: 'string', value: 'N', help: 'only if the name has this version; 0: only if there is none' },
  reason: { type: 'string', value: 'TEXT', help: 'why, for the history' },
} as const satisfies CommandOptions;

/** Names that point to adapters. */
export const ALIAS_COMMANDS: Command[] = [
  {
    name: 'alias list',
    positionals: [],
    summary: 'Names that point to adapters',
    options: OWNER_OPTION,
    async run(context) {
      const data = await context.client.aliases(optionsOf(context));
      const rows = data.map(({ name, adapter, base_model, version, moved_at }) => [
        name,
        adapter,
        base_model,
        version,
        moved_at,
      ]);
      return print(context, { data }, textTable(['NAME', 'ADAPTER', 'MODEL', 'VERSION', 'MOVED'], rows));
    },
  },
  {
    name: 'alias show',
    positionals: ['NAME'],
    summary: 'One name and its history',
    options: OWNER_OPTION,
    async run(context) {
      const alias = await context.client.alias(context.positionals[0]!, optionsOf(context));
      return print(context, alias, aliasText(alias));
    },
  },
  {
    name: 'alias set',
    positionals: ['NAME', 'ADAPTER'],
    summary: 'Point a name at an adapter: its id, or another name',
    options: {
      ...MOVE_OPTIONS,
      guard: { type: 'string', value: 'DATASET', help: 'only if its loss on this dataset is not worse' },
      'max-worse': { type: 'string', value: 'LOSS', help: 'with --guard: it may be worse by this [0]' },
    },
    async run(context) {
      const [name, adapter] = context.positionals as [string, string];
      const request = { adapter, ...moveOf(context), ...guardOf(context) };
      const alias = await context.client.moveAlias(name, request, optionsOf(context));
      return print(context, alias, movedText(alias));
    },
  },
  {
    name: 'alias rollback',
    positionals: ['NAME'],
    summary: 'Point a name at the adapter that it had before',
    options: {
      to: { type: 'string', value: 'VERSION', help: 'the version whose adapter it gets again [the one before]' },
      ...MOVE_OPTIONS,
    },
    async run(context) {
      const { to } = context.values as { to?: string };
      const request = { ...(to === undefined ? {} : { version: Number(to) }), ...moveOf(context) };
      const alias = await context.client.rollBackAlias(context.positionals[0]!, request, optionsOf(context));
      return print(context, alias, movedText(alias));
    },
  },
  {
    name: 'alias deliver',
    positionals: ['NAME'],
    summary: 'Have a place follow a name: its adapter is delivered there now, and whenever the name moves',
    options: {
      ...TARGET_OPTIONS,
      none: { type: 'boolean', help: 'no place follows it any more; what was delivered stays' },
      ...OWNER_OPTION,
    },
    help: ['Without a place, it shows the deliveries of the present move.'],
    async run(context) {
      const { client, values, positionals } = context;
      const name = positionals[0]!;
      if (values.none === true) await client.setAliasDeliveries(name, [], optionsOf(context));
      else if (Object.keys(TARGET_OPTIONS).some((option) => values[option] !== undefined)) {
        const target = targetOf(values);
        const { deliver } = await client.alias(name, optionsOf(context));
        const others = deliver.filter((one) => JSON.stringify(one) !== JSON.stringify(target));
        await client.setAliasDeliveries(name, [...others, target], optionsOf(context));
      }
      const deliveries = await client.aliasDeliveries(name, optionsOf(context));
      return print(context, deliveries, deliveriesText(deliveries));
    },
  },
  {
    name: 'alias rm',
    positionals: ['NAME'],
    summary: 'Delete a name; its adapter stays',
    options: OWNER_OPTION,
    async run(context) {
      const name = context.positionals[0]!;
      await context.client.deleteAlias(name, optionsOf(context));
      return print(context, { name, deleted: true }, `${name} is deleted`);
    },
  },
];

function optionsOf({ values, signal }: CommandContext): AliasOptions {
  return { ...given({ owner: values.owner as string | undefined }), signal };
}

function moveOf({ values }: CommandContext): { if_version?: number; reason?: string } {
  const { 'if-version': version, reason } = values as { 'if-version'?: string; reason?: string };
  return { ...(version === undefined ? {} : { if_version: Number(version) }), ...given({ reason }) };
}

/** @throws ProductError `invalid_request` for a bound without a dataset */
function guardOf({ values }: CommandContext): Pick<MoveAliasRequest, 'guard'> {
  const { guard: dataset, 'max-worse': bound = '0' } = values as { guard?: string; 'max-worse'?: string };
  if (dataset !== undefined) return { guard: { dataset, metric: 'loss', max_worse: Number(bound) } };
  if (values['max-worse'] === undefined) return {};
  throw new ProductError('invalid_request', '--max-worse needs --guard.', { param: '--max-worse' });
}

function movedText({ name, adapter, version, history: [move] }: Alias): string {
  const { before, after } = move?.guard ?? {};
  const losses = [before, after].flatMap((loss) => (loss == null ? [] : [loss.toPrecision(5)]));
  return `${name} points to ${adapter} (version ${version})${losses.length === 0 ? '' : `; loss ${losses.join(' → ')}`}`;
}

function aliasText(alias: Alias): string {
  const rows = alias.history.map((move) => [
    move.version,
    move.adapter,
    move.moved_at,
    move.moved_by ?? '-',
    note(move),
  ]);
  return `${movedText(alias)}\n${textTable(['VERSION', 'ADAPTER', 'MOVED', 'BY', 'REASON'], rows)}`;
}

function note({ rolled_back_to: earlier, reason }: AliasMove): string {
  return [earlier === null ? '' : `rolled back to ${earlier}`, reason ?? ''].filter(Boolean).join(': ');
}
