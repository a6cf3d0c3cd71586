/**
 * @typedef {Record<string, any>} Schema
 * @typedef {{ path: string, value: any }} Wrong
 */

/** Wrong values that depend on others, with what Helm must say. @type {{ name: string, values: any, says: RegExp }[]} */
export const WRONG_TOGETHER = [
  { name: 's3 without a bucket', values: { store: { kind: 's3' } }, says: /store\.s3\.bucket|store\/s3\/bucket/ },
  {
    name: 'neither an own Redis nor another',
    values: { redis: { internal: { enabled: false } } },
    says: /redis[./]external[./]urlSecret/,
  },
  { name: 'an Ingress without a name', values: { ingress: { enabled: true } }, says: /ingress[./]host/ },
  {
    name: 'a route without a Gateway',
    values: { gateway: { enabled: true, host: 'lora.example' } },
    says: /gateway[./]parentRefs/,
  },
  {
    name: 'a class that is scaled without its memory',
    values: { workers: [{ name: 'a10g', image: 'worker-gpu', scaling: { maxReplicas: 2 } }] },
    says: /memoryGiB/,
  },
  { name: 'a worker without an image', values: { workers: [{ name: 'a10g' }] }, says: /image/ },
  {
    name: 'a setting of another service',
    values: { registry: { settings: { JOBS_AT_ONCE: 4 } } },
    says: /JOBS_AT_ONCE/,
  },
  {
    name: 'a setting that the chart makes',
    values: { settings: { REDIS_URL: 'redis://elsewhere' } },
    says: /REDIS_URL/,
  },
  {
    name: 'a secret among the settings',
    values: { api: { settings: { WEBHOOK_SECRET: 'x' } } },
    says: /WEBHOOK_SECRET/,
  },
];

/**
 * Values that the schema must refuse: for each of its values some of a wrong type, beyond its bounds or of another form.
 *
 * @param {Schema} schema
 * @param {string[]} [path]
 * @returns {Wrong[]}
 */
export function wrongValues(schema, path = []) {
  const types = [schema.type ?? []].flat();
  const wrong = (/** @type {any} */ value) => [{ path: path.join('/'), value }];
  if (schema.properties !== undefined) {
    const unknown = types.includes('object') && path.length > 0 ? wrong({ 'no-such-value': 1 }) : [];
    return [...unknown, ...Object.entries(schema.properties).flatMap(([name, of]) => wrongValues(of, [...path, name]))];
  }
  if (types.includes('array')) {
    return [...wrong('text'), ...(schema.items.properties ? wrongValues(schema.items, [...path, '0']) : [])];
  }
  if (schema.enum !== undefined) return wrong('no such choice');
  if (types.includes('integer') || types.includes('number')) {
    return [
      ...wrong('many'),
      ...(schema.minimum === undefined ? [] : wrong(schema.minimum - 1)),
      ...(schema.maximum === undefined ? [] : wrong(schema.maximum * 2 + 1)),
      ...(types.includes('integer') ? wrong(1.5) : []),
    ];
  }
  if (types.includes('string')) {
    return [...wrong({ a: 'b' }), ...(schema.pattern === undefined ? [] : wrong('\u0000 not this'))];
  }
  if (types.includes('boolean')) return wrong('perhaps');
  return wrong(7);
}

/**
 * Values files that together have all of the wrong values, each at most one at a place: Helm names all faults of a file.
 *
 * @param {Wrong[]} wrongs
 * @returns {{ values: any, paths: string[] }[]}
 */
export function inFiles(wrongs) {
  /** @type {{ values: any, paths: string[] }[]} */
  const files = [];
  for (const { path, value } of wrongs) {
    // Neither beside one for the same place, nor within one.
    const free = files.find(
      ({ paths }) => !paths.some((other) => `${other}/`.startsWith(`${path}/`) || `${path}/`.startsWith(`${other}/`)),
    );
    const file = free ?? { values: {}, paths: [] };
    if (free === undefined) files.push(file);
    file.paths.push(path);
    place(file.values, path.split('/'), value);
  }
  return files;
}

/** @param {any} values @param {string[]} path @param {any} value */
function place(values, [first = '', ...rest], value) {
  if (rest.length === 0) {
    values[first] = value;
    return;
  }
  // What a worker must have, so that only the wrong value is wrong.
  values[first] ??= rest[0] === '0' ? [{ name: 'a', image: 'worker-cpu' }] : {};
  place(values[first], rest, value);
}
