import { docker } from './docker.mjs';

/** Programs that no image may contain. The api image must not contain TensorFlow either. */
const BUILD_TOOLS = ['npm', 'npx', 'pnpm', 'pip', 'pip3', 'python3', 'gcc', 'g++', 'cc', 'make'];

/**
 * @param {string} image
 * @param {{ engine: boolean }} expected
 * @returns {Promise<string>} a line for the report
 * @throws {Error} naming the fault
 */
export async function checkImage(image, { engine }) {
  const [details] = JSON.parse((await docker(['image', 'inspect', image])).stdout);
  const { Config: config, Size: sizeBytes } = details;
  const labels = config.Labels ?? {};
  must(/^[1-9]\d*:/.test(config.User), `runs as ${config.User || 'root'}`);
  must(labels['org.opencontainers.image.title']?.startsWith('lorasmith-'), 'has no OCI title');
  must(labels['org.opencontainers.image.version'], 'has no OCI version');
  must(config.Healthcheck, 'has no health check');
  const script = `for tool in ${BUILD_TOOLS.join(' ')}; do command -v "$tool"; done; find / -xdev -name 'libtensorflow*' 2>/dev/null; true`;
  const found = (await docker(['run', '--rm', '--network', 'none', image, 'sh', '-c', script])).stdout
    .split('\n')
    .filter(Boolean);
  const tools = found.filter((file) => !file.includes('libtensorflow'));
  must(tools.length === 0, `holds ${tools.join(', ')}`);
  must(
    found.length > tools.length === engine,
    engine ? 'lacks TensorFlow' : `contains TensorFlow: ${found.join(', ')}`,
  );
  const sbom = JSON.parse(
    (await docker(['run', '--rm', '--network', 'none', image, 'cat', '/usr/share/doc/lorasmith/sbom.cdx.json'])).stdout,
  );
  must(sbom.bomFormat === 'CycloneDX' && sbom.components.length > 100, 'has no SBOM');
  return `${image}: ${toMegabytes(sizeBytes)} MB, user ${config.User}, ${sbom.components.length} components listed\n${await layers(image)}`;

  /** @param {unknown} condition @param {string} fault */
  function must(condition, fault) {
    if (!condition) throw new Error(`the image ${image} ${fault}`);
  }
}

/** @param {string} image @returns {Promise<string>} its layers of at least half a megabyte, last first */
async function layers(image) {
  const { stdout } = await docker([
    'history',
    '--no-trunc',
    '--human=false',
    '--format',
    '{{.Size}}\t{{.CreatedBy}}',
    image,
  ]);
  return stdout
    .trim()
    .split('\n')
    .map((line) => line.split('\t'))
    .filter(([size]) => Number(size) >= 500_000)
    .map(
      ([size, by = '']) =>
        `      ${String(toMegabytes(Number(size))).padStart(5)} MB  ${by.replace(' # buildkit', '').slice(0, 80) || 'the base image'}`,
    )
    .join('\n');
}

/** @param {number} bytes */
function toMegabytes(bytes) {
  return Math.round(bytes / 1e6);
}
