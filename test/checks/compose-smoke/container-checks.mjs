import { docker } from './docker.mjs';

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
