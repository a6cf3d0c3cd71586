/**
 * @typedef {import('./api-server.mjs').Manifest} Manifest
 * @typedef {object} ComposeService
 * @property {Record<string, string>} [environment]
 * @property {string[] | Record<string, unknown>} networks
 */

/** Services of docker-compose.yml and the parts of the chart. */
const PARTS = { api: 'api', registry: 'registry', puller: 'puller', worker: 'worker-cpu', redis: 'redis' };
/** Values that are made for the place: addresses, and the card that the chart's first class has not. */
const OF_PLACE = ['REDIS_URL', 'REGISTRY_URL', 'DEVICE', 'API_PUBLISHED_HOST'];

/**
 * How the pods of a chart, as it is by default, differ from the services of docker-compose.yml in variables and connections.
 *
 * @param {Record<string, ComposeService>} services
 * @param {Manifest[]} manifests
 * @returns {string[]}
 */
export function differencesFromCompose(services, manifests) {
  return Object.entries(PARTS).flatMap(([name, part]) => {
    const service = services[name];
    const pods = manifests.find(({ metadata, spec }) => spec?.template && metadata.name.endsWith(`-${part}`));
    const policy = manifests.find(
      ({ kind, metadata }) =>
        kind === 'NetworkPolicy' && metadata.name.endsWith(name === 'worker' ? '-workers' : `-${part}`),
    );
    if (service === undefined || pods === undefined || policy === undefined) return [`${name} is missing`];
    const networks = Array.isArray(service.networks) ? service.networks : Object.keys(service.networks);
    const isOutside = policy.spec.egress.some((/** @type {any} */ { to }) =>
      to?.some((/** @type {any} */ { ipBlock }) => ipBlock !== undefined),
    );
    const differences = networks.includes('outside') === isOutside ? [] : [`${name}: only one of both reaches outside`];
    /** @type {{ name: string, value?: string }[]} */
    const env = pods.spec.template.spec.containers[0].env ?? [];
    const here = new Map(env.map((one) => [one.name, one.value ?? '']));
    for (const [variable, value] of Object.entries(service.environment ?? {})) {
      // Empty where Compose hides a variable of .env, or takes it from there.
      const isUsed = value !== '' && !/^\$\{\w+:[-+]\}?$/.test(value) && !value.startsWith('${REDIS_CA_FILE:+');
      const isHere = (here.get(variable) ?? '') !== '';
      if (isUsed !== isHere) differences.push(`${name}: only one of both sets ${variable}`);
      else if (isUsed && !OF_PLACE.includes(variable) && here.get(variable) !== value) {
        differences.push(`${name}: ${variable} is ${value} in Compose, ${here.get(variable)} here`);
      }
    }
    return differences;
  });
}
