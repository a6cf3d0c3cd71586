import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { docker } from './docker.mjs';
import { documentedCommands, runCommands } from './documented-commands.mjs';

/** Services that connect to the outside: the api is published and calls webhooks, the puller asks the hub. */
const REACH_OUT = ['api', 'puller'];

/**
 * Checks every running container: none runs as root; only the api has an open port, on the loopback interface; only the puller
 * can write to the models folder, and only it has the token of the hub.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack
 * @returns {Promise<string>} a line for the report
 * @throws {Error} naming the container and its fault
 */
export async function checkContainers(stack) {
  const containers = await stack.containers();
  const users = [];
  for (const { service, id } of containers) {
    const [details] = JSON.parse((await docker(['inspect', id])).stdout);
    const { Config: config, HostConfig: host, Mounts: mounts, NetworkSettings: network } = details;
    const uids = (await docker(['top', id, '-eo', 'pid,uid'])).stdout
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/)[1] ?? '')
      .filter(Boolean);
    const must = (/** @type {unknown} */ condition, /** @type {string} */ fault) => {
      if (!condition) throw new Error(`the container of ${service} ${fault}`);
    };
    must(uids.length > 0 && !uids.includes('0'), `runs as user ${uids.join(', ')}`);
    must(host.ReadonlyRootfs, 'can write to its root');
    must(host.CapDrop?.includes('ALL') && !host.CapAdd?.length, 'has capabilities');
    must(
      host.SecurityOpt?.some((/** @type {string} */ option) => option.startsWith('no-new-privileges')),
      'may gain privileges',
    );
    must(host.LogConfig.Config['max-size'], 'has a log without a size limit');
    must(host.RestartPolicy.Name === 'unless-stopped', 'is not restarted');
    const open = Object.values(network.Ports ?? {}).flatMap((bindings) => bindings ?? []);
    if (service === 'api') {
      must(open.length > 0 && open.every(({ HostIp }) => HostIp === '127.0.0.1'), `is open on ${JSON.stringify(open)}`);
    } else {
      must(open.length === 0, `has an open port: ${JSON.stringify(open)}`);
    }
    const isOutside = Object.keys(network.Networks).some((name) => !name.endsWith('_inside'));
    must(isOutside === REACH_OUT.includes(service), `${isOutside ? 'can' : 'cannot'} reach the outside`);
    const isPuller = service === 'puller';
    const models = mounts.find((/** @type {{ Destination: string }} */ { Destination }) => Destination === '/models');
    must((models?.RW ?? false) === isPuller, `${isPuller ? 'cannot' : 'can'} write to the models folder`);
    const hasToken = config.Env.some((/** @type {string} */ line) => /^HF_TOKEN=./.test(line));
    must(hasToken === isPuller, `${hasToken ? 'has' : 'lacks'} the token of the hub`);
    users.push(`${service} ${[...new Set(uids)].join(',')}`);
  }
  return `users: ${users.join(', ')}; one open port, the api's on 127.0.0.1; roots read-only, no capabilities; models and token of the puller alone`;
}

/**
 * Backs up the stack, removes its volumes and restores them, with the commands of docs/operations.md.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack
 * @param {{ folder: string, everything: () => Promise<string>, signal: AbortSignal }} options `folder`: an empty folder
 *   for the backup; `everything`: the data that must be unchanged after it
 * @returns {Promise<string>} a line for the report
 * @throws {Error} when a command fails or data differ
 */
export async function checkBackup(stack, { folder, everything, signal }) {
  const options = { cwd: folder, env: stack.shellEnvironment, signal };
  const run = async (/** @type {string} */ after) => await runCommands(await documentedCommands(after), options);
  const before = await everything();
  await run('**While it runs, with Compose:**');
  await run('**Read it**');
  await stack.compose(['down', '--volumes']);
  await run('**Restore**');
  const after = await everything();
  if (after !== before) throw new Error(`before: ${before}\nafter: ${after}`);
  const sizes = await Promise.all(
    ['redis.rdb', 'data.tar'].map(
      async (name) => `${name} ${(await stat(path.join(folder, 'backup', name))).size} bytes`,
    ),
  );
  return `identical, byte for byte, restored from ${sizes.join(' and ')}`;
}

/**
 * Checks the access of the Prometheus of docker/compose.monitoring.yml to the metrics: with its empty key file while there
 * are no API keys, and with the key that the commands of docs/operations.md create.
 *
 * @param {import('./compose-stack.mjs').ComposeStack} stack
 * @param {{ folder: string, signal: AbortSignal }} options
 * @returns {Promise<string>} a line for the report
 */
export async function checkMetricsKey(stack, { folder, signal }) {
  const ask = async (/** @type {string} */ key) => {
    const response = await fetch(`${stack.apiUrl}/metrics`, { headers: { authorization: `Bearer ${key}` }, signal });
    await response.text();
    return response.status;
  };
  const open = await ask('');
  const commands = await documentedCommands("Once there are API keys, the api's figures");
  await runCommands(commands, { cwd: folder, env: stack.shellEnvironment, signal });
  const key = (await readFile(path.join(folder, 'metrics-key'), 'utf8')).trim();
  const answers = [open, await ask(key), await ask('')];
  if (answers.join() !== '200,200,401') throw new Error(`the answers were ${answers.join(', ')}`);
  return '200 while there are no API keys; then 200 with a key and 401 without one';
}
