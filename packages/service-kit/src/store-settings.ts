import { ProductError } from '@lorasmith/contracts';
import { Type } from 'typebox';
import { type Config, setting } from './settings.js';

/** The store of datasets, adapters, checkpoints and base models; the same for every service. */
export const storeSettings = {
  backend: setting({
    variable: 'STORE',
    schema: Type.Enum(['local', 's3']),
    fallback: 'local',
    example: 's3',
    description:
      'Where datasets, adapters, checkpoints and base models are stored. `local`: in `DATA_DIR` and ' +
      '`MODELS_DIR`. `s3`: in a bucket, for several hosts; `DATA_DIR` then holds copies and work in progress. ' +
      'The same for every service.',
  }),
  bucket: setting({
    variable: 'S3_BUCKET',
    schema: Type.String({ pattern: '^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$' }),
    fallback: '',
    example: 'lorasmith',
    fault: 'is not a bucket name',
    description:
      'Name of the bucket, which must exist. Credentials come from the standard places: `AWS_ACCESS_KEY_ID` and ' +
      '`AWS_SECRET_ACCESS_KEY`, a shared file, or the role of the host or container.',
  }),
  endpoint: setting({
    variable: 'S3_ENDPOINT',
    schema: Type.String({ pattern: '^(https?://[^/?#@]+/?)?$' }),
    fallback: '',
    example: 'http://minio:9000',
    fault: 'is not an address such as http://host:port',
    description: "Address of an S3 service other than Amazon's. It must support conditional puts (`If-None-Match: *`).",
  }),
  region: setting({
    variable: 'S3_REGION',
    schema: Type.String({ pattern: '^[a-z0-9-]{1,64}$' }),
    fallback: 'us-east-1',
    example: 'eu-central-1',
    fault: 'is not a region name',
    description: 'Region of the bucket.',
  }),
  prefix: setting({
    variable: 'S3_PREFIX',
    schema: Type.String({ pattern: '^([A-Za-z0-9][A-Za-z0-9._-]*/)*$', maxLength: 256 }),
    fallback: '',
    example: 'lorasmith/',
    fault: 'is neither empty nor a path that ends with /',
    description: "Prefix of every object's name, for a bucket with other contents.",
  }),
  forcePathStyle: setting({
    variable: 'S3_FORCE_PATH_STYLE',
    schema: Type.Boolean(),
    fallback: 'false',
    example: 'true',
    description: '`true`: the bucket is in the path, not in the host name. Most self-hosted S3 services need this.',
  }),
  cacheBytes: setting({
    variable: 'STORE_CACHE_BYTES',
    schema: Type.Integer({ minimum: 1_000_000, maximum: Number.MAX_SAFE_INTEGER }),
    fallback: '107374182400',
    unit: 'bytes',
    example: '214748364800',
    description:
      'Disk space in `DATA_DIR/cache` for copies of what is in the bucket. The least recently used copy is ' +
      'removed first. It must hold the largest base model together with its dataset.',
  }),
};

/** Settings of an S3 store. */
export interface S3StoreConfig {
  endpoint: string | null;
  region: string;
  bucket: string;
  prefix: string;
  forcePathStyle: boolean;
  cacheBytes: number;
}

/** Null for a local store. @throws ProductError `invalid_configuration` when the bucket is missing */
export function s3StoreOf(config: Config<typeof storeSettings>): S3StoreConfig | null {
  const { backend, endpoint, ...rest } = config;
  if (backend === 'local') return null;
  if (rest.bucket === '') {
    const message =
      'The environment is invalid:\n  S3_BUCKET must be set with STORE=s3, for instance S3_BUCKET=lorasmith';
    throw new ProductError('invalid_configuration', message, { param: 'S3_BUCKET' });
  }
  return { ...rest, endpoint: endpoint === '' ? null : endpoint };
}
