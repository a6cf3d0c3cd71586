import { type Fault, ProductError } from '@lorasmith/contracts';
import type { Setting } from './setting.js';

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
