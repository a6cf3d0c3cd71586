// Made up, for a server that only this test reaches.
const ACCESS_KEY = 'smoke-access';
const SECRET_KEY = 'smoke-secret';

/**
 * What stands in for a bucket: an S3 server in a container, at an address of the engine's host.
 *
 * @param {{ serverFile: string, bucket: string, address: string, port: number }} options `serverFile`: the server's program,
 *   which needs no library
 * @returns {{ composeFile: object, settings: string }} `settings`: the lines of .env with which every host finds it
 */
export function s3Service({ serverFile, bucket, address, port }) {
  const start = `mkdir -p /tmp/objects/${bucket} /tmp/metadata && exec /versitygw --quiet --port :7070 posix --sidecar /tmp/metadata /tmp/objects`;
  const s3 = {
    image: 'debian:bookworm-slim',
    command: ['sh', '-c', start],
    environment: { ROOT_ACCESS_KEY: ACCESS_KEY, ROOT_SECRET_KEY: SECRET_KEY },
    volumes: [`${serverFile}:/versitygw:ro`],
    ports: [`${address}:${port}:7070`],
    networks: ['outside'],
  };
  const settings = `S3_BUCKET=${bucket}
S3_ENDPOINT=http://${address}:${port}
S3_FORCE_PATH_STYLE=true
AWS_ACCESS_KEY_ID=${ACCESS_KEY}
AWS_SECRET_ACCESS_KEY=${SECRET_KEY}
`;
  return { composeFile: { services: { s3 } }, settings };
}
