import { parseArgs } from 'node:util';
import { isLabel, KeyId, ProductError, ROLES, type Role } from '@lorasmith/contracts';
import { Value } from 'typebox/value';
import { KEY_WEIGHTS, KeyLimits, type KeyRecord, type KeyStore, type ListedKey } from './key-store.js';

export interface KeyCommandOptions {
  /** The arguments after the program's name. */
  args: string[];
  keys: KeyStore;
  output: { write(text: string): unknown };
  errorOutput: { write(text: string): unknown };
}

const EXIT = { done: 0, failed: 1, misused: 2 } as const;

const USAGE = `Creates, lists and revokes the API keys of this Lorasmith.

  create --name NAME --role ROLE   creates a key and prints it; it is not shown again
  list                             every key, without its secret
  revoke KEY                       refuses a key from now on; what it created stays, and its jobs continue
  weight KEY NUMBER                changes its share of the machines, relative to the other keys

  --role admin     sees and does everything
  --role train     uploads datasets, runs jobs and downloads adapters, and sees only its own
  --role read      sees what belongs to the key of --owner, and changes nothing
  --owner KEY      sees and creates things as the key KEY does, for example to replace it before you revoke it
  --owner all      with --role read: sees everything, and /metrics
  --weight NUMBER  its share of the machines, from 0.01 to 100 [1]: a key of weight 2 trains twice as many tokens as one of
                   weight 1 while both have jobs
  --requests-per-minute N, --active-jobs N, --dataset-bytes N, --adapter-bytes N
                   limits of this key, if they differ from the settings
  --json           prints JSON

KEY is the id of a key (key_…), not its secret (lsk_…).
`;

const OPTIONS = {
  name: { type: 'string' },
  role: { type: 'string' },
  owner: { type: 'string' },
  'requests-per-minute': { type: 'string' },
  'active-jobs': { type: 'string' },
  'dataset-bytes': { type: 'string' },
  'adapter-bytes': { type: 'string' },
  weight: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

type Values = ReturnType<typeof parse>['values'];

/** Runs one command and returns its exit code. @throws errors that the input did not cause, such as an unavailable Redis */
export async function runKeyCommand({ args, keys, output, errorOutput }: KeyCommandOptions): Promise<number> {
  try {
    const { values, positionals } = parse(args);
    const [command, ...rest] = positionals;
    if (values.help || command === undefined) {
      output.write(USAGE);
      return EXIT.done;
    }
    if (command === 'create' && rest.length === 0) {
      const { key, token } = await keys.create(newKeyOf(values));
      if (values.json) output.write(`${JSON.stringify({ ...key, token }, null, 2)}\n`);
      else output.write(`${table([key])}\n${token}\n\nStore it now: it will not be shown again.\n`);
      return EXIT.done;
    }
    if (command === 'list' && rest.length === 0) {
      const list = await keys.list();
      output.write(values.json ? `${JSON.stringify(list, null, 2)}\n` : table(list));
      return EXIT.done;
    }
    if (command === 'revoke' && rest.length === 1) {
      const key = await keys.revoke(keyIdOf(rest[0] ?? ''));
      output.write(values.json ? `${JSON.stringify(key, null, 2)}\n` : table([key]));
      return EXIT.done;
    }
    if (command === 'weight' && rest.length === 2) {
      const [id = '', weight = ''] = rest;
      const key = await keys.setWeight(keyIdOf(id), weightOf(weight));
      output.write(values.json ? `${JSON.stringify(key, null, 2)}\n` : table([key]));
      return EXIT.done;
    }
    errorOutput.write(USAGE);
    return EXIT.misused;
  } catch (error) {
    const misused = (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') ?? false;
    if (!misused && !(error instanceof ProductError)) throw error;
    errorOutput.write(`${(error as Error).message}\n`);
    return misused || (error as ProductError).status === 400 ? EXIT.misused : EXIT.failed;
  }
}

function parse(args: string[]) {
  return parseArgs({ args, options: OPTIONS, allowPositionals: true, strict: true });
}

function newKeyOf(values: Values) {
  const { name = '', role = '', owner } = values;
  if (name === '' || name.length > 128 || !isLabel(name)) {
    throw invalid(
      'name',
      '--name NAME: a name of 1 to 128 characters of which one can be seen, without control characters.',
    );
  }
  if (!isRole(role)) throw invalid('role', `--role must be one of ${ROLES.join(', ')}.`);
  if (role === 'read' && owner === undefined) {
    const message =
      'A key with --role read owns nothing. Name the owner whose things it reads: --owner KEY, or --owner all.';
    throw invalid('owner', message);
  }
  if (owner === 'all' && role !== 'read') throw invalid('owner', '--owner all needs --role read.');
  const ownerId: KeyRecord['owner'] | undefined = owner === undefined || owner === 'all' ? owner : keyIdOf(owner);
  if (values.weight !== undefined && ownerId !== undefined) {
    throw invalid('weight', 'A key with --owner has no --weight: its jobs belong to the owner, whose weight counts.');
  }
  const weight = values.weight === undefined ? undefined : weightOf(values.weight);
  return { name, role, owner: ownerId, limits: limitsOf(values), weight };
}

function isRole(text: string): text is Role {
  return ROLES.some((role) => role === text);
}

function keyIdOf(text: string): KeyId {
  if (Value.Check(KeyId, text)) return text;
  // The argument may be the secret, so it is not repeated.
  throw invalid('key', 'This is not the id of a key, such as key_0123456789abcdef01234567. `list` shows the ids.');
}

function limitsOf(values: Values): KeyLimits {
  const limits: Record<string, number> = {};
  for (const name of ['requests-per-minute', 'active-jobs', 'dataset-bytes', 'adapter-bytes'] as const) {
    const text = values[name];
    if (text === undefined) continue;
    if (!/^\d{1,15}$/.test(text)) throw invalid(name, `--${name} must be a whole number.`);
    limits[name.replaceAll('-', '_')] = Number(text);
  }
  return Value.Parse(KeyLimits, limits);
}

function weightOf(text: string): number {
  const weight = /^\d{1,3}(\.\d{1,4})?$/.test(text) ? Number(text) : Number.NaN;
  const { minimum, maximum } = KEY_WEIGHTS;
  if (weight >= minimum && weight <= maximum) return weight;
  throw invalid('weight', `The weight of a key is a number from ${minimum} to ${maximum}.`);
}

function invalid(param: string, message: string): ProductError {
  return new ProductError('invalid_request', message, { param });
}

function table(keys: ListedKey[]): string {
  const rows = [
    ['ID', 'NAME', 'ROLE', 'OWNER', 'WEIGHT', 'CREATED', 'REVOKED'],
    ...keys.map((key) => [
      key.id,
      // A name is untrusted text, so line ends and escape sequences are removed.
      key.name.replaceAll(/\p{Cc}/gu, '?'),
      key.role,
      key.owner === key.id ? 'itself' : key.owner,
      String(key.weight),
      key.created_at.slice(0, 19),
      key.revoked_at?.slice(0, 19) ?? '',
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return `${rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')}\n`;
}
