/**
 * @typedef {import('../../packages/service-kit/dist/index.js').SettingTree} SettingTree
 * @typedef {import('../../packages/service-kit/dist/index.js').Setting<unknown>} Setting
 * @typedef {Record<string, SettingTree>} Services settings by service: api, worker, registry, puller
 * @typedef {Record<string, any>} Schema JSON Schema, draft 7, which Helm checks values with
 */

/** The settings that the chart makes from other values. Secrets besides come from a Secret. */
export const OWN_VARIABLES = [
  ...['DATA_DIR', 'MODELS_DIR', 'SHUTDOWN_TIMEOUT_MS', 'REDIS_URL', 'REDIS_CA_FILE'],
  ...['STORE', 'S3_BUCKET', 'S3_ENDPOINT', 'S3_REGION', 'S3_PREFIX', 'S3_FORCE_PATH_STYLE'],
  ...['API_HOST', 'API_PORT', 'API_PUBLISHED_HOST', 'REGISTRY_URL', 'REGISTRY_HOST', 'REGISTRY_PORT', 'SERVICE_SECRET'],
  ...['DELIVERY_FOLDER'],
  ...[
    'WORKER_CLASSES',
    'WORKER_CLASS_SECONDS',
    'WORKER_CLASS',
    'DEVICE',
    'WORKER_NAME',
    'WORKER_HEALTH_HOST',
    'WORKER_HEALTH_PORT',
    'PULLER_HEALTH_PORT',
  ],
];

/** @param {string} description @param {Schema} [rest] */
const text = (description, rest = {}) => ({ type: 'string', description, ...rest });
/** @param {string} description @param {number} minimum @param {number} maximum */
const integer = (description, minimum, maximum) => ({ type: 'integer', minimum, maximum, description });
/** @param {string} description */
const flag = (description) => ({ type: 'boolean', description });
/** @param {string} description @param {Schema} properties @param {Schema} [rest] */
const object = (description, properties, rest = {}) => ({
  type: 'object',
  description,
  properties,
  additionalProperties: false,
  ...rest,
});
/** A part of a manifest that Kubernetes checks. @param {string} description */
const manifest = (description) => ({ type: 'object', description });
/** @param {string} description */
const manifests = (description) => ({ type: 'array', items: { type: 'object' }, description });
/** @param {string} description */
const texts = (description) => ({ type: 'object', additionalProperties: { type: 'string' }, description });

const NAME = { pattern: '^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$' };
const NAME_OR_NONE = { pattern: '^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$' };
const HOST_OR_NONE = { pattern: '^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)?$' };
const QUANTITY = '^[0-9]+(\\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$';
const size = (/** @type {string} */ description) => text(description, { pattern: QUANTITY });
const quantities = {
  type: 'object',
  additionalProperties: {
    anyOf: [
      { type: 'integer', minimum: 0 },
      { type: 'string', pattern: QUANTITY },
    ],
  },
};

/** @param {string} description */
const resources = (description) => object(description, { requests: quantities, limits: quantities });
/** @param {string} description */
const secret = (description) => ({
  ...object(
    `${description} \`{name: of a Secret, key: in it}\``,
    {
      name: text('Name of the Secret.', NAME),
      key: text('Key in the Secret.', { pattern: '^[A-Za-z0-9._-]{1,253}$' }),
    },
    { required: ['name', 'key'] },
  ),
  type: ['object', 'null'],
});
/** @param {string} description */
const className = (description) => ({ type: ['string', 'null'], ...NAME_OR_NONE, description });
const pods = object('How pods are placed, as in a pod of Kubernetes, and their annotations.', {
  annotations: texts('Annotations of the pods.'),
  nodeSelector: texts('Labels that a node must have.'),
  tolerations: manifests('Taints that they tolerate.'),
  affinity: manifest('Affinity.'),
});
const shutdownSeconds = integer(
  '`SHUTDOWN_TIMEOUT_MS`, in seconds. The pod is killed 5 to 10 s after that.',
  5,
  86_400,
);
const scratch = size('Space in `/tmp`.');

/** @param {Setting[]} settings @returns {Schema} of an object with any of these settings */
function settingsSchema(settings, description = '') {
  const own = settings.filter(({ variable, secret: isSecret }) => !isSecret && !OWN_VARIABLES.includes(variable));
  return object(description, Object.fromEntries(own.map((one) => [one.variable, valueSchema(one)])));
}

/** @param {Setting} setting @returns {Schema} */
function valueSchema({ schema, description }) {
  return { ...JSON.parse(JSON.stringify(schema)), description };
}

/**
 * The schema of the values of docker/helm/lorasmith.
 *
 * @param {Services} services
 * @param {Pick<typeof import('../../packages/service-kit/dist/index.js'), 'settingsOf'>} serviceKit
 * @returns {Schema}
 */
export function valuesSchema(services, { settingsOf }) {
  const settings = Object.fromEntries(Object.entries(services).map(([name, tree]) => [name, settingsOf(tree)]));
  const all = new Map(Object.values(settings).flatMap((of) => of.map((one) => [one.variable, one])));
  const settingsOfService = (/** @type {string} */ name) =>
    settingsSchema(settings[name] ?? [], `Settings of the ${name}, by their names in configuration.md.`);
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    $comment: 'Written by `npm run docs` from scripts/chart/values-schema.mjs and the settings of the services.',
    title: 'Values of the chart lorasmith',
    ...object('', {
      global: manifest('Values that Helm shares with charts that contain this one. Nothing reads them.'),
      images: object('', {
        prefix: text('Goes before the names of the images: `registry.example.com/lorasmith/`.', {
          pattern: '^([A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*/)?$',
        }),
        tag: text('Tag of the images; empty: the version of the chart.', { pattern: '^[A-Za-z0-9_.-]{0,128}$' }),
        pullPolicy: { enum: ['Always', 'IfNotPresent', 'Never'], description: 'When images are pulled.' },
        pullSecrets: {
          type: 'array',
          items: { type: 'string', ...NAME },
          description: 'Names of Secrets with which images are pulled.',
        },
      }),
      serviceAccount: object('', {
        annotations: texts('Annotations of the service account of all pods, such as the role for the bucket.'),
      }),
      settings: settingsSchema([...all.values()], 'Settings of all services, by their names in configuration.md.'),
      api: object('', {
        replicas: integer('Pods of the api. Limits of open streams and of planning apply to each.', 0, 100),
        settings: settingsOfService('api'),
        webhookSecret: secret('`WEBHOOK_SECRET`:'),
        secretsKeySecret: secret('`SECRETS_KEY`:'),
        deliveries: object('', {
          existingClaim: {
            type: 'string',
            ...NAME_OR_NONE,
            description:
              'A claim for `DELIVERY_FOLDER`, which these pods can write and your servers can read. Empty: none.',
          },
          serverKeySecret: secret('`DELIVERY_SERVER_KEY`:'),
          accessKeyIdSecret: secret('`DELIVERY_S3_ACCESS_KEY_ID`:'),
          secretAccessKeySecret: secret('`DELIVERY_S3_SECRET_ACCESS_KEY`:'),
        }),
        shutdownSeconds,
        service: object('', {
          type: { enum: ['ClusterIP', 'NodePort', 'LoadBalancer'], description: 'Type of the Service of the api.' },
          port: integer('Port of the Service of the api.', 1, 65_535),
          annotations: texts('Annotations of the Service.'),
        }),
        resources: resources('Of an api. A planning thread ends itself at 2 GB, so the limit must be above that.'),
        scratch,
        pods,
      }),
      registry: object('', {
        replicas: integer('Pods of the registry.', 0, 20),
        settings: settingsOfService('registry'),
        serviceSecret: secret('`SERVICE_SECRET`, by which the registry knows the api; for a bucket:'),
        shutdownSeconds,
        resources: resources('Of a registry. A merge holds the adapter in float32.'),
        scratch,
        pods,
      }),
      puller: object('', {
        enabled: flag('Whether base models can be pulled from the hub.'),
        settings: settingsOfService('puller'),
        tokenSecret: secret('`HF_TOKEN`, for gated and private models:'),
        shutdownSeconds,
        resources: resources('Of the puller.'),
        scratch,
        pods,
      }),
      workers: {
        type: 'array',
        description: 'Classes of workers, one Deployment each.',
        items: object(
          '',
          {
            name: text('Name of the class, such as the name of its card.', {
              pattern: '^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$',
            }),
            image: {
              enum: ['worker-cpu', 'worker-gpu', 'worker-gpu-tensorflow'],
              description: 'The image. Those for GPUs set `DEVICE=gpu` and ask for one card.',
            },
            replicas: integer('Workers, unless they are scaled. Default: 1.', 0, 1_000),
            memoryGiB: {
              type: 'number',
              exclusiveMinimum: 0,
              maximum: 100_000,
              description:
                'Memory that jobs have on such a worker (`memory_bytes` of `GET /machines`): of the card without what CUDA takes. With it, the class is one of `WORKER_CLASSES`: list classes in the order in which they should be used.',
            },
            scaling: object(
              'With `keda.enabled`: at least and at most so many workers.',
              { minReplicas: integer('The least.', 0, 1_000), maxReplicas: integer('The most.', 1, 1_000) },
              { required: ['maxReplicas'] },
            ),
            gpuResource: text('What a worker asks for; default: `nvidia.com/gpu`. For a MIG instance its own name.', {
              pattern: '^[a-z0-9.-]+/[A-Za-z0-9._-]+$',
            }),
            runtimeClassName: text('RuntimeClass of the pods, such as `nvidia`.', NAME),
            settings: settingsOfService('worker'),
            shutdownSeconds: {
              ...shutdownSeconds,
              description: `${shutdownSeconds.description} Default: 40. A trainer has 0.6 of it, and at most 20 s, for the checkpoints of its jobs.`,
            },
            resources: resources('Of a worker. The card is added.'),
            scratch,
            pods,
          },
          { required: ['name', 'image'], dependencies: { scaling: ['memoryGiB'] } },
        ),
      },
      keda: object('', {
        enabled: flag('Whether KEDA starts and ends workers of the classes that have `scaling`.'),
        secondsPerWorker: integer('`WORKER_CLASS_SECONDS`', 1, 31_536_000),
        pollingSeconds: integer('Time between two looks.', 1, 86_400),
        cooldownSeconds: integer('How long nothing must be wanted before the last worker ends.', 0, 86_400),
        scaleDownSeconds: integer('How long fewer must be wanted before one of several workers ends.', 0, 3_600),
        keySecret: secret('An API key that sees everything, once there are keys:'),
        prometheusAddress: text('A Prometheus that scrapes the api; empty: KEDA asks the api itself.', {
          pattern: '^(https?://[^ ]+)?$',
        }),
      }),
      redis: object('', {
        internal: object('', {
          enabled: flag('Whether the chart runs a Redis.'),
          image: text('Its image.', { pattern: '^[A-Za-z0-9][A-Za-z0-9._:/@-]*$' }),
          maxmemory: text(
            'At this much memory Redis refuses new jobs. Leave a quarter of the limit for Redis itself.',
            {
              pattern: '^[1-9][0-9]*(b|kb|mb|gb)?$',
            },
          ),
          passwordSecret: secret('Its password, of letters and digits; null: none. NetworkPolicies keep others out.'),
          storage: object('', {
            size: size('Of the volume of Redis.'),
            className: className('StorageClass of the volume; null: the default of the cluster.'),
          }),
          resources: resources('Of Redis.'),
          pods,
        }),
        external: object('', {
          urlSecret: secret('`REDIS_URL` with user and password, if the chart runs no Redis:'),
          caSecret: secret('`REDIS_CA_FILE`, certificates to trust for `rediss://`:'),
        }),
      }),
      store: object('', {
        kind: { enum: ['local', 's3'], description: '`STORE`. `local`: a volume that all pods share. `s3`: a bucket.' },
        local: object('', {
          existingClaim: text('A claim for `DATA_DIR` that many pods can write.', NAME_OR_NONE),
          size: size('Of the claim that the chart makes otherwise.'),
          className: className('Its StorageClass, which must provide ReadWriteMany; null: the default of the cluster.'),
        }),
        s3: object('', {
          bucket: text('`S3_BUCKET`', { pattern: '^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$' }),
          endpoint: text('`S3_ENDPOINT`', { pattern: '^(https?://[^/?#@]+/?)?$' }),
          region: text('`S3_REGION`', { pattern: '^[a-z0-9-]{1,64}$' }),
          prefix: text('`S3_PREFIX`', { pattern: '^([A-Za-z0-9][A-Za-z0-9._-]*/)*$', maxLength: 256 }),
          forcePathStyle: flag('`S3_FORCE_PATH_STYLE`'),
          credentialsSecret: text(
            'A Secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; empty: the role of the service account.',
            NAME_OR_NONE,
          ),
          cache: object('', {
            size: size('Of the volume of each pod, which ends with it. `STORE_CACHE_BYTES` must be below it.'),
            className: className('StorageClass of the volumes; null: the default of the cluster.'),
          }),
        }),
      }),
      models: object('', {
        existingClaim: text('A claim for `MODELS_DIR`, with `store.kind: local`.', NAME_OR_NONE),
        size: size('Of the claim that the chart makes otherwise.'),
        className: className('Its StorageClass, which must provide ReadWriteMany; null: the default of the cluster.'),
      }),
      ingress: object(
        '',
        {
          enabled: flag('Whether the api has an Ingress. The api then starts only if there is a key.'),
          className: className('IngressClass; null: the default of the cluster.'),
          annotations: texts('Annotations of the Ingress, for instance for large uploads and long answers.'),
          host: text('Name of the api.', HOST_OR_NONE),
          tlsSecret: text('A Secret with the certificate of the name; empty: no TLS.', NAME_OR_NONE),
        },
        ifEnabled({ host: { minLength: 1 } }),
      ),
      gateway: object(
        '',
        {
          enabled: flag(
            'Whether the api has an HTTPRoute of the Gateway API. The api then starts only if there is a key.',
          ),
          parentRefs: manifests('Gateways to attach to.'),
          host: text('Name of the api.', HOST_OR_NONE),
          annotations: texts('Annotations of the HTTPRoute.'),
        },
        ifEnabled({ host: { minLength: 1 }, parentRefs: { minItems: 1 } }),
      ),
      networkPolicy: object('', {
        enabled: flag('Whether pods may connect only as on the networks of `docker-compose.yml`.'),
        apiFrom: manifests(
          'Who may call the api besides the pods of the release, as peers of a NetworkPolicy. Empty: nobody; everyone once the api has a name of its own or a Service of another type.',
        ),
        metricsFrom: manifests('Who may read the metrics of registry and workers, as peers of a NetworkPolicy.'),
        outside: {
          type: 'array',
          items: { type: 'string', pattern: '^[0-9a-fA-F.:]+/[0-9]{1,3}$' },
          description: 'Addresses that api and puller, and with an external Redis or s3 the others, may connect to.',
        },
        extraEgress: manifests('Further rules for outgoing connections of all pods, such as to a collector of traces.'),
      }),
      podDisruptionBudgets: object('', { enabled: flag('Whether a drain ends one pod of each part at a time.') }),
      priorityClasses: object('', {
        create: flag('Whether services go before workers where the cluster lacks space.'),
        services: integer('Priority of api, registry, puller and Redis.', -1_000_000_000, 1_000_000_000),
        workers: integer('Priority of workers.', -1_000_000_000, 1_000_000_000),
      }),
      monitoring: object('', {
        serviceMonitors: object('', {
          enabled: flag('Whether the Prometheus operator scrapes the services.'),
          labels: texts('Labels by which the operator selects them.'),
          interval: text('Time between two scrapes.', { pattern: '^[0-9]+(s|m)$' }),
          keySecret: secret('An API key that sees everything, once there are keys:'),
        }),
        alerts: object('', {
          enabled: flag('Whether the operator loads `docker/monitoring/alerts.yml`.'),
          labels: texts('Labels by which the operator selects them.'),
        }),
      }),
      test: object('', {
        baseModel: text('The base model on which `helm test` trains.', { minLength: 1, maxLength: 96 }),
        timeoutSeconds: integer('How long that may take.', 10, 86_400),
        keySecret: secret('An API key that may train, once there are keys:'),
      }),
    }),
    allOf: [
      {
        if: { properties: { store: { properties: { kind: { const: 's3' } } } } },
        // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
        then: { properties: { store: { properties: { s3: { properties: { bucket: { minLength: 1 } } } } } } },
      },
      {
        if: { properties: { redis: { properties: { internal: { properties: { enabled: { const: false } } } } } } },
        // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
        then: {
          properties: { redis: { properties: { external: { properties: { urlSecret: { type: 'object' } } } } } },
        },
      },
    ],
  };
}

/** @param {Schema} properties what must be true while `enabled` is @returns {Schema} */
function ifEnabled(properties) {
  return {
    if: { properties: { enabled: { const: true } } },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    then: { properties },
  };
}
