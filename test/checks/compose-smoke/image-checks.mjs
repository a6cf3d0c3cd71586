import { appendFile, cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ARCHITECTURES } from '../../../scripts/setup/cuda-kernels.mjs';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { docker } from './docker.mjs';

/** Programs that no image may contain. */
const BUILD_TOOLS = ['npm', 'npx', 'pnpm', 'pip', 'pip3', 'python3', 'gcc', 'g++', 'cc', 'make'];

/**
 * `none`: no TensorFlow. `cpu`: TensorFlow for CPUs. `cuda`: the CUDA engine besides. `tensorflow`: TensorFlow for GPUs besides.
 *
 * @typedef {'none' | 'cpu' | 'cuda' | 'tensorflow'} EngineOfImage
 */

const CUDA_KERNELS = '/app/packages/tensor/native/build/cuda';
/** Files that only images of these engines contain. @type {Record<string, EngineOfImage[]>} */
const ENGINE_FILES = {
  '/opt/tensorflow/lib/libtensorflow_cc.so.2': ['cpu', 'cuda', 'tensorflow'],
  '/app/packages/tensor/native/build/cuda.node': ['cuda', 'tensorflow'],
  ...Object.fromEntries(
    ARCHITECTURES.map((architecture) => [`${CUDA_KERNELS}/${architecture}`, ['cuda', 'tensorflow']]),
  ),
  '/opt/cuda/lib/libcublasLt.so.12': ['cuda', 'tensorflow'],
  '/opt/cuda/lib/libnvrtc.so.12': ['cuda', 'tensorflow'],
  '/opt/cuda/lib/libcublas.so.12': ['tensorflow'],
  '/opt/cuda/lib/libcudnn.so.9': ['tensorflow'],
  '/opt/cuda/bin/ptxas': ['tensorflow'],
  '/opt/cuda/nvvm/libdevice/libdevice.10.bc': ['tensorflow'],
  '/opt/tensorflow-gpu/lib/libtensorflow_cc.so.2': ['tensorflow'],
};
/** Names each library of the engines for which another one is not found. */
const MISSING_LIBRARIES =
  'for file in /opt/*/lib/*.so* /app/packages/*/native/build/*.node; do [ -e "$file" ] || continue; ' +
  'LD_LIBRARY_PATH="$(dirname "$file"):/opt/tensorflow/lib:$LD_LIBRARY_PATH" ldd "$file" 2>&1 | grep "not found" | sed "s|^|$file:|"; done; true';

/**
 * @param {string} image
 * @param {{ engine: EngineOfImage }} expected
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
  const tools = await linesOf(`for tool in ${BUILD_TOOLS.join(' ')}; do command -v "$tool"; done; true`);
  must(tools.length === 0, `contains ${tools.join(', ')}`);
  const files = Object.keys(ENGINE_FILES);
  const found = await linesOf(`ls -d ${files.join(' ')} 2>/dev/null; true`);
  for (const file of files) {
    const isExpected = ENGINE_FILES[file]?.includes(engine) ?? false;
    must(found.includes(file) === isExpected, `${isExpected ? 'lacks' : 'contains'} ${file}`);
  }
  if (engine === 'none') {
    const tensorflow = await linesOf("find / -xdev -name 'libtensorflow*' 2>/dev/null; true");
    must(tensorflow.length === 0, `contains TensorFlow: ${tensorflow.join(', ')}`);
  }
  const missing = await linesOf(MISSING_LIBRARIES);
  must(missing.length === 0, `lacks libraries: ${missing.join('; ')}`);
  const sbom = JSON.parse(
    (await docker(['run', '--rm', '--network', 'none', image, 'cat', '/usr/share/doc/lorasmith/sbom.cdx.json'])).stdout,
  );
  must(sbom.bomFormat === 'CycloneDX' && sbom.components.length > 100, 'has no SBOM');
  return `${image}: ${toMegabytes(sizeBytes)} MB, user ${config.User}, ${sbom.components.length} components listed\n${await layers(image)}`;

  /** Runs a shell script in the image. @param {string} script */
  async function linesOf(script) {
    const { stdout } = await docker(['run', '--rm', '--network', 'none', image, 'sh', '-c', script]);
    return stdout.split('\n').filter(Boolean);
  }

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

/** Folders that are not in git and may be large, relative to the repository. */
const NOT_COPIED = /(^|\/)(node_modules|dist)$|^(\.git|data|models)$/;
/** Steps that may run again: those that see every file, or the compiled ones. Base images are only looked up. */
const EXPECTED = /^\[(internal|manifests|compile)\b|\] FROM |\] COPY --from=compile /;

/**
 * Rebuilds each image in a copy of the repository, after a change of one source file that all images contain.
 *
 * @param {string[]} targets of the Dockerfile
 * @param {AbortSignal} signal
 * @returns {Promise<string>} a line for the report
 * @throws {Error} when more is built again than our own code, or the change is not in an image
 */
export async function checkRebuild(targets, signal) {
  const copy = await mkdtemp(path.join(tmpdir(), 'lorasmith-source-'));
  const tagOf = (/** @type {string} */ target) => `lorasmith-rebuild-${target}:${process.pid}`;
  try {
    await cp(ROOT_DIR, copy, { recursive: true, filter: (file) => !NOT_COPIED.test(path.relative(ROOT_DIR, file)) });
    await appendFile(
      path.join(copy, 'packages/contracts/src/index.ts'),
      `\nexport const CHANGED_AT = ${Date.now()};\n`,
    );
    const times = [];
    for (const target of targets) {
      const startedAt = Date.now();
      const what = ['--file', 'docker/Dockerfile', '--target', target, '--tag', tagOf(target)];
      const { output } = await docker(['build', '--progress', 'plain', ...what, '.'], {
        cwd: copy,
        env: { ...process.env, DOCKER_BUILDKIT: '1' },
        signal,
      });
      const steps = stepsThatRan(output);
      const unexpected = steps.filter((step) => !EXPECTED.test(step));
      if (unexpected.length > 0) throw new Error(`${target} builds again:\n${unexpected.join('\n')}`);
      if (!steps.some((step) => step.includes('COPY --from=compile')))
        throw new Error(`the change is not in ${target}:\n${output}`);
      times.push(`${target} ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
    }
    return times.join(', ');
  } finally {
    await docker(['image', 'rm', '--force', ...targets.map(tagOf)], { expectFailure: true });
    await rm(copy, { recursive: true, force: true });
  }
}

/** The steps that BuildKit did not have in its cache. @param {string} output of `docker build --progress plain` */
function stepsThatRan(output) {
  const steps = new Map();
  for (const line of output.split('\n')) {
    const [, number, rest = ''] = /^#(\d+) (.*)$/.exec(line) ?? [];
    if (rest === 'CACHED') steps.delete(number);
    else if (rest.startsWith('[') && !steps.has(number)) steps.set(number, rest);
  }
  return [...steps.values()];
}
