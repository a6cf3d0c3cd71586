/**
 * @typedef {import('../../packages/service-kit/dist/index.js').SettingTree} SettingTree
 * @typedef {import('../../packages/service-kit/dist/index.js').Setting<unknown>} Setting
 *
 * @typedef {object} ServiceSettings
 * @property {SettingTree} api
 * @property {SettingTree} worker
 * @property {SettingTree} registry
 * @property {SettingTree} puller
 */

const INTRODUCTION = `<!-- Written by \`npm run docs\` from the settings of the services. Change those, not this page. -->

# Configuration

Every setting is an environment variable. A service reads its variables once, when it starts. An empty variable counts as unset. If a
variable is wrong, the service ends with exit code 78, and a message that names each wrong variable, says what is wrong, and gives an example.

The settings of limits are in [limits.md](limits.md), the others here. With Docker Compose all are in \`.env\`, with the settings of Compose itself (\`.env.example\`). Compose sets folders, hosts and ports in the containers itself, \`SHUTDOWN_TIMEOUT_MS\` to 40000, and \`DEVICE\` to \`gpu\` unless \`.env\` has it.`;

const COMMANDS = `## Settings of the commands

\`npm start\`, \`npm run demo\` and \`npm test\` set \`DATA_DIR\`, \`MODELS_DIR\`, \`REDIS_URL\`, \`REGISTRY_URL\` and the hosts and ports for
the services they start. They read the variables below themselves, and pass all others on:

| Variable | Default | What it does |
| --- | --- | --- |
| \`API_HOST\`, \`API_PORT\` | \`127.0.0.1\`, \`8080\` | Where \`npm start\` serves the api. The demo takes any free port. |
| \`REGISTRY_PORT\` | \`8081\` | Port of the registry under \`npm start\`, on 127.0.0.1. |
| \`DATA_DIR\`, \`MODELS_DIR\` | \`data\`, \`models\` | Relative to the repository, not to the current folder. |
| \`REDIS_URL\` | unset | A Redis that is already running. Unset: \`redis-server\` or \`valkey-server\` on the PATH, else the pinned Valkey, started with the stack and stopped with it. |
| \`LORASMITH_CACHE_DIR\` | \`$XDG_CACHE_HOME/lorasmith\`, else \`~/.cache/lorasmith\` | Downloads and compiled parts, shared by all clones. Deleting it is safe. |
| \`LIBTENSORFLOW_DIR\` | unset | Another build of TensorFlow 2.20: a folder with \`lib/\` and \`include/\`. Unset: the pinned download. |

The command \`lora\` reads \`LORASMITH_URL\` (default \`http://127.0.0.1:8080\`).`;

/**
 * Writes docs/configuration.md: first the settings that several services read, then those of each service.
 *
 * @param {ServiceSettings} services
 * @param {ReadonlySet<string>} elsewhere variables that another page lists
 * @param {Pick<typeof import('../../packages/service-kit/dist/index.js'), 'configurationTable' | 'settingsOf'>} serviceKit
 * @returns {string}
 */
export function configurationPage(services, elsewhere, { configurationTable, settingsOf }) {
  const own = Object.entries(services).map(([name, tree]) => ({
    name,
    settings: settingsOf(tree)
      .filter(({ variable }) => !elsewhere.has(variable))
      .map(asDocumented),
  }));
  const readers = (/** @type {string} */ variable) =>
    own.filter(({ settings }) => settings.some((setting) => setting.variable === variable)).map(({ name }) => name);
  /** @param {Setting[]} settings */
  const table = (settings) =>
    configurationTable(Object.fromEntries(settings.map((setting) => [setting.variable, setting])));

  const shared = new Map(
    own
      .flatMap(({ settings }) => settings)
      .filter(({ variable }) => readers(variable).length > 1)
      .map((setting) => [
        setting.variable,
        { ...setting, description: `${setting.description} ${readBy(readers(setting.variable), own.length)}` },
      ]),
  );
  const sections = own.map(
    ({ name, settings }) =>
      `## Settings of the ${name}\n\n${table(settings.filter(({ variable }) => readers(variable).length === 1))}`,
  );
  return `${[INTRODUCTION, `## Settings of several services\n\n${table([...shared.values()])}`, ...sections, COMMANDS].join('\n\n')}\n`;
}

/** Replaces defaults that depend on the machine. @param {Setting} setting */
function asDocumented(setting) {
  if (setting.variable === 'WORKER_NAME') return { ...setting, fallback: 'name of the host' };
  // Its value may contain a password; its default does not.
  return { ...setting, secret: setting.secret && setting.fallback === undefined };
}

/** @param {string[]} names @param {number} all */
function readBy(names, all) {
  return names.length === all ? '(All services.)' : `(${names.join(' and ')}.)`;
}
