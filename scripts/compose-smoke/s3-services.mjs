/**
 * What stands in for a bucket and for several hosts on one engine: an S3 server in a container, and workers with a volume
 * each, however many there are.
 *
 * @param {{ serverFile: string, bucket: string }} options `serverFile`: the S3 server program, which needs no library
 * @returns {object} a compose file
 */
export function s3Services({ serverFile, bucket }) {
  // Made up, for a server that only this stack reaches.
  const keys = { AWS_ACCESS_KEY_ID: 'smoke-access', AWS_SECRET_ACCESS_KEY: 'smoke-secret' };
  const environment = { ...keys, S3_ENDPOINT: 'http://s3:7070', S3_FORCE_PATH_STYLE: 'true', JOB_LOCK_MS: '15000' };
  const start = `mkdir -p /tmp/objects/${bucket} /tmp/metadata && exec /versitygw --quiet --port :7070 posix --sidecar /tmp/metadata /tmp/objects`;
  return {
    services: {
      s3: {
        image: 'debian:bookworm-slim',
        command: ['sh', '-c', start],
        environment: {
          ROOT_ACCESS_KEY: keys.AWS_ACCESS_KEY_ID,
          ROOT_SECRET_KEY: keys.AWS_SECRET_ACCESS_KEY,
        },
        volumes: [`${serverFile}:/versitygw:ro`],
        networks: ['inside'],
      },
      api: { environment },
      registry: { environment },
      // Without a name a volume is the container's own.
      worker: { environment, volumes: ['/data'] },
    },
  };
}
