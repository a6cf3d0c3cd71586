import path from 'node:path';
import { type Fault, ProductError } from '@lorasmith/contracts';
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';

/** One environment variable: its check, default and documentation. */
export interface Setting<Result> {
  readonly kind: 'setting';
  readonly variable: string;
  readonly description: string;
  readonly unit: string | undefined;
  readonly example: string;
  /** Default, as text in the environment; undefined: the variable must be set. */
  readonly fallback: string | undefined;
  /** True: its value must not appear in messages or documentation. */
  readonly secret: boolean;
  /** JSON Schema of the value, after conversion to a number or boolean. */
  readonly schema: TSchema;
  /** @returns the value, or the fault of the text */
  parse(text: string): { value: Result } | { fault: string };
}

export interface SettingOptions<Schema extends TSchema> {
  variable: string;
  /** Schema of the value, after conversion to a number or boolean. */
  schema: Schema;
  description: string;
  /** Unit of a number: milliseconds, bytes, … */
  unit?: string;
  example: string;
  fallback?: string;
  secret?: boolean;
  /** Message for a value that the schema refuses. @defaultValue the schema's own */
  fault?: string;
}

export function setting<Schema extends TSchema>(options: SettingOptions<Schema>): Setting<Static<Schema>> {
  const { variable, schema, description, unit, example, fallback, secret = false, fault } = options;
  return {
    kind: 'setting',
    variable,
    description,
    unit,
    example,
    fallback,
    secret,
    schema,
    parse(text) {
      const value = typedValue(schema, text);
      if (Value.Check(schema, value)) return { value: value as Static<Schema> };
      return { fault: fault ?? Value.Errors(schema, value)[0]?.message ?? 'is not valid' };
    },
  };
}

const NUMBER = /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i;

/** Converts text to the schema's type if the complete text is valid; TypeBox's conversion would truncate 1.5 to 1. */
function typedValue(schema: TSchema, text: string): unknown {
  const type = 'type' in schema ? schema.type : undefined;
  if ((type === 'integer' || type === 'number') && NUMBER.test(text)) return Number(text);
  if (type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

/** The same setting with its value converted, for instance to an absolute path. */
export function mapSetting<From, To>(from: Setting<From>, map: (value: From) => To): Setting<To> {
  return {
    ...from,
    parse(text) {
      const parsed = from.parse(text);
      return 'fault' in parsed ? parsed : { value: map(parsed.value) };
    },
  };
}

/** A TCP port; 0 for any free one. */
export const Port = Type.Integer({ minimum: 0, maximum: 65_535 });

/** The settings of a service, grouped as its code uses them. */
export interface SettingTree {
  readonly [name: string]: Setting<unknown> | SettingTree;
}

/** The values that {@link readConfig} reads for a tree of settings. */
export type Config<Tree> = {
  readonly [Name in keyof Tree]: Tree[Name] extends Setting<infer Value> ? Value : Config<Tree[Name]>;
};

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads every setting of the tree from the environment, once. An empty variable counts as unset.
 *
 * @returns a frozen tree of the same shape
 * @throws ProductError `invalid_configuration` with every invalid variable, its fault and an example
 */
export function readConfig<Tree extends SettingTree>(tree: Tree, environment: Environment): Config<Tree> {
  const faults: Fault[] = [];
  const read = (node: SettingTree): object =>
    Object.freeze(
      Object.fromEntries(
        Object.entries(node).map(([name, child]) => [
          name,
          isSetting(child) ? readSetting(child, environment, faults) : read(child),
        ]),
      ),
    );
  const config = read(tree);
  if (faults.length > 0) {
    const message = `The environment is invalid:\n${faults.map((fault) => `  ${fault.message}`).join('\n')}`;
    throw new ProductError('invalid_configuration', message, { details: faults, param: faults[0]?.param });
  }
  return config as Config<Tree>;
}

/**
 * {@link readConfig} for a service's main: an invalid environment is reported on standard error and ends the process
 * with exit code 78 (EX_CONFIG of sysexits.h), before anything is opened.
 *
 * @param check throws a ProductError for values that are each valid, but not together
 */
export function readConfigOrExit<Tree extends SettingTree>(
  tree: Tree,
  environment: Environment,
  check?: (config: Config<Tree>) => void,
): Config<Tree> {
  try {
    const config = readConfig(tree, environment);
    check?.(config);
    return config;
  } catch (error) {
    return exitOnWrongConfiguration(error);
  }
}

/** Exits for faults of the environment that a service's main finds later. Rethrows anything but a ProductError. */
export function exitOnWrongConfiguration(error: unknown): never {
  if (!(error instanceof ProductError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(78);
}

/** Every setting of the tree, in source order. */
export function settingsOf(tree: SettingTree): Setting<unknown>[] {
  return Object.values(tree).flatMap((child) => (isSetting(child) ? [child] : settingsOf(child)));
}

/** The settings as rows of a Markdown table. */
export function configurationTable(tree: SettingTree): string {
  const rows = settingsOf(tree).map(({ variable, fallback, unit, description, secret }) => {
    const value = fallback === undefined ? 'must be set' : secret ? 'a secret' : fallback && `\`${fallback}\``;
    return `| \`${variable}\` | ${value} | ${unit ?? ''} | ${description} |`;
  });
  return ['| Variable | Default | Unit | What it does |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

function isSetting(node: Setting<unknown> | SettingTree): node is Setting<unknown> {
  return node.kind === 'setting' && typeof node.parse === 'function';
}

function readSetting(setting: Setting<unknown>, environment: Environment, faults: Fault[]): unknown {
  const { variable, fallback, example, secret } = setting;
  const text = environment[variable] || fallback;
  if (text === undefined) {
    faults.push(faultOf(variable, `${variable} must be set, for instance ${variable}=${example}`));
    return undefined;
  }
  const parsed = setting.parse(text);
  if ('value' in parsed) return parsed.value;
  const shown = secret ? '' : ` ${JSON.stringify(text.slice(0, 200))}`;
  faults.push(faultOf(variable, `${variable}${shown}: ${parsed.fault}; for instance ${variable}=${example}`));
  return undefined;
}

function faultOf(variable: string, message: string): Fault {
  return { code: 'invalid_configuration', message, param: variable };
}

/** Settings that several services share, so that a variable means the same everywhere. */

export const logLevel = setting({
  variable: 'LOG_LEVEL',
  schema: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']),
  fallback: 'info',
  example: 'debug',
  description: 'Minimum level of the log lines.',
});

export const redisUrl = setting({
  variable: 'REDIS_URL',
  schema: Type.String({ pattern: '^(rediss?|unix)://' }),
  fallback: 'redis://127.0.0.1:6379',
  example: 'redis://127.0.0.1:6379',
  // It may contain a password.
  secret: true,
  fault: 'is not an address that begins with redis://, rediss:// or unix://',
  description:
    'The Redis that holds jobs and their queue. It needs `appendonly yes` and `maxmemory-policy noeviction`.',
});

export const redisPrefix = setting({
  variable: 'REDIS_PREFIX',
  schema: Type.String({ pattern: '^[A-Za-z0-9{}:_-]{1,64}$' }),
  fallback: 'lorasmith:',
  example: 'lorasmith:',
  fault: 'has other characters than letters, digits and {}:_- or is longer than 64',
  description: 'Prefix of every key in Redis. The same for api and workers.',
});

const folder = (variable: string, fallback: string, description: string) =>
  mapSetting(
    setting({
      variable,
      schema: Type.String({ minLength: 1, maxLength: 4096 }),
      fallback,
      example: `/srv/lorasmith/${path.basename(fallback)}`,
      description,
    }),
    (value) => path.resolve(value),
  );

export const dataDir = folder('DATA_DIR', './data', 'Folder of datasets, adapters, checkpoints and merged models.');
export const modelsDir = folder('MODELS_DIR', './models', 'Folder with one folder per base model.');

export const serviceSecret = mapSetting(
  setting({
    variable: 'SERVICE_SECRET',
    schema: Type.String({ pattern: '^([\\x21-\\x7e]{32,256})?$' }),
    fallback: '',
    example: '(openssl rand -hex 32)',
    secret: true,
    fault: 'has fewer than 32 or more than 256 characters, or others than letters, digits and signs',
    description:
      'The secret by which the registry knows the api; the same for both. Without it, they use a secret that the registry ' +
      'writes into the `DATA_DIR` that they share. Set it where they share none, as with `STORE=s3`: the registry would ' +
      'answer everyone that reaches its port.',
  }),
  (value) => (value === '' ? null : value),
);

export const tokenCacheBytes = setting({
  variable: 'TOKEN_CACHE_BYTES',
  schema: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  fallback: '21474836480',
  unit: 'bytes',
  example: '107374182400',
  description:
    'Disk space for tokenized datasets, which are made once and kept for the next job. The least recently used ' +
    'one is removed first; one that a job reads stays even beyond this limit.',
});

export const shutdownTimeoutMs = setting({
  variable: 'SHUTDOWN_TIMEOUT_MS',
  schema: Type.Integer({ minimum: 100, maximum: 600_000 }),
  fallback: '30000',
  unit: 'ms',
  example: '30000',
  description: 'How long the process may take to end after SIGTERM. After that it ends without finishing.',
});

export const tracingEndpoint = mapSetting(
  setting({
    variable: 'OTEL_EXPORTER_OTLP_ENDPOINT',
    schema: Type.String({ pattern: '^(none|https?://[^?#]+)$' }),
    fallback: 'none',
    example: 'http://127.0.0.1:4318',
    fault: 'is not an address such as http://host:4318',
    description:
      'A collector for traces that accepts OTLP over HTTP. `none`: nothing is traced. `OTEL_TRACES_SAMPLER` and ' +
      '`OTEL_EXPORTER_OTLP_HEADERS` have their standard meaning.',
  }),
  (value) => (value === 'none' ? null : value),
);

export const maxConnections = setting({
  variable: 'CONNECTIONS_MAX',
  schema: Type.Integer({ minimum: 10, maximum: 1_000_000 }),
  fallback: '4000',
  unit: 'connections',
  example: '20000',
  description:
    'Maximum open connections of a service; also at most half of the files that its process may open (`ulimit ' +
    '-n`), because requests need the other half. Further connections are closed.',
});

export const downloadStallMs = setting({
  variable: 'DOWNLOAD_STALL_MS',
  schema: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
  fallback: '120000',
  unit: 'ms',
  example: '120000',
  description:
    'A download is ended if the client takes no bytes for this long. The client can continue it with a range. The same for ' +
    'api and registry.',
});
