import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { extract } from 'tar';
import { SetupError } from '../setup/run-steps.mjs';

/**
 * The images, and the platforms that each is for: there are engines for GPUs on x64 alone.
 *
 * @type {Record<string, string[]>}
 */
export const IMAGES = {
  api: ['linux/amd64', 'linux/arm64'],
  registry: ['linux/amd64', 'linux/arm64'],
  'worker-cpu': ['linux/amd64', 'linux/arm64'],
  'worker-gpu': ['linux/amd64'],
  'worker-gpu-tensorflow': ['linux/amd64'],
};

/** The images that ours are made from, by the argument of the Dockerfile. */
export const BASE_IMAGES = { NODE_IMAGE: 'node:24-bookworm-slim', DEBIAN_IMAGE: 'debian:bookworm-slim' };

const run = promisify(execFile);

/**
 * A builder of Docker Buildx.
 *
 * @typedef {object} Builder
 * @property {string} name
 * @property {string} buildkit its version
 * @property {string[]} platforms
 */

/**
 * @param {string} name of a builder of `docker buildx`; empty: the current one
 * @returns {Promise<Builder>}
 * @throws {SetupError} when there is none, or it is Docker's own, which writes no OCI archives
 */
export async function findBuilder(name) {
  const shown = await buildx(['inspect', ...(name === '' ? [] : [name]), '--bootstrap']);
  const field = (/** @type {string} */ key) => new RegExp(`^${key}: +(.+)$`, 'm').exec(shown)?.[1] ?? '';
  if (field('Driver') === 'docker') {
    throw new SetupError(
      `the builder ${field('Name')} is Docker's own, which writes no images for several platforms into files`,
      'make another one (docker buildx create --name lorasmith-release), and add --builder lorasmith-release.',
    );
  }
  const platforms = field('Platforms').split(/,\s*/);
  return {
    name: field('Name'),
    buildkit: field('BuildKit version'),
    platforms: platforms.map((one) => one.replace('*', '')),
  };
}

/**
 * The image that a name stands for now.
 *
 * @param {string} reference such as `debian:bookworm-slim`
 * @returns {Promise<string>} with its digest: `debian:bookworm-slim@sha256:…`
 * @throws {SetupError} when its registry does not answer
 */
export async function withDigest(reference) {
  if (reference.includes('@sha256:')) return reference;
  const manifest = await buildx(['imagetools', 'inspect', '--raw', reference]);
  return `${reference}@sha256:${createHash('sha256').update(manifest).digest('hex')}`;
}

/**
 * Builds an image into an OCI archive. Its bytes depend on the source, the base images and the compilers alone: files newer than the commit
 * get its time, and BuildKit adds no provenance of its own, which would have the time of the build.
 *
 * @param {string} image one of {@link IMAGES}
 * @param {object} options
 * @param {string} options.context folder of the source
 * @param {string} options.file to write
 * @param {import('./archives.mjs').Source} options.source
 * @param {string} options.version
 * @param {readonly string[]} options.platforms
 * @param {Record<string, string>} options.baseImages by argument, with digests
 * @param {string} options.builder
 * @param {boolean} options.cached whether steps that have run for this commit may be taken from the builder's cache
 * @param {AbortSignal | undefined} [options.signal]
 * @throws {SetupError}
 */
export async function buildImage(
  image,
  { context, file, source, version, platforms, baseImages, builder, cached, signal },
) {
  const args = {
    ...baseImages,
    VERSION: version,
    REVISION: source.commit,
    SOURCE_DATE_EPOCH: String(source.epochSeconds),
  };
  const options = [
    ...['--builder', builder, '--file', `${context}/docker/Dockerfile`, '--target', image],
    ...['--platform', platforms.join(','), '--provenance=false', '--sbom=false', '--progress=plain'],
    ...Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
    ...(cached ? [] : ['--no-cache']),
    ...['--output', `type=oci,dest=${file},rewrite-timestamp=true`],
  ];
  const child = spawn('docker', ['buildx', 'build', ...options, context], {
    signal,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [code] = await once(child, 'close');
  if (code !== 0) {
    throw new SetupError(
      `the image ${image} cannot be built: docker buildx exited with ${code}`,
      'see its output above.',
    );
  }
}

/** @param {string[]} args @returns {Promise<string>} standard output */
async function buildx(args) {
  try {
    return (await run('docker', ['buildx', ...args], { maxBuffer: 2 ** 24 })).stdout;
  } catch (cause) {
    const { code, stderr = '' } = /** @type {Error & { code?: string | number, stderr?: string }} */ (cause);
    const why = code === 'ENOENT' ? 'there is no command docker' : (stderr.trim().split('\n').at(-1) ?? '');
    throw new SetupError(
      `docker buildx ${args.join(' ')}: ${why}`,
      'images need Docker with Buildx 0.13 or later; --without-images releases the rest.',
      { cause },
    );
  }
}

/** The file with the list of contents, in an image. */
const SBOM = 'usr/share/doc/lorasmith/sbom.cdx.json';

/**
 * An image for one platform in an OCI archive.
 *
 * @typedef {object} PlatformImage
 * @property {string} platform such as `linux/amd64`
 * @property {string} digest of its manifest
 * @property {string[]} layers their digests, the first at the bottom
 * @property {string} sbom its list of contents, as it is in the image
 *
 * @typedef {object} ImageArchive
 * @property {string} digest by which a registry will know the image: that of the index, with one platform of the manifest
 * @property {PlatformImage[]} platforms
 */

/**
 * @param {string} file an OCI archive
 * @param {string} scratch a folder with space for it
 * @returns {Promise<ImageArchive>}
 * @throws {Error} when an image has no list of contents
 */
export async function readOciArchive(file, scratch) {
  const folder = await mkdtemp(path.join(scratch, 'oci-'));
  try {
    await extract({ file, cwd: folder });
    const blob = (/** @type {string} */ digest) => path.join(folder, 'blobs', digest.replace(':', '/'));
    const read = async (/** @type {string} */ name) => JSON.parse(await readFile(name, 'utf8'));
    const [{ digest }] = (await read(path.join(folder, 'index.json'))).manifests;
    const top = await read(blob(digest));
    /** @type {string[]} */
    const digests = top.manifests?.map((/** @type {{ digest: string }} */ one) => one.digest) ?? [digest];
    const platforms = [];
    for (const one of digests) {
      const { config, layers } = await read(blob(one));
      const { os, architecture, history } = await read(blob(config.digest));
      /** @type {string[]} */
      const inOrder = layers.map((/** @type {{ digest: string }} */ layer) => layer.digest);
      const written = history.filter((/** @type {any} */ step) => step.empty_layer !== true);
      const at = written.findIndex((/** @type {any} */ step) => step.created_by?.includes('sbom.cdx.json'));
      const layer = inOrder[at];
      if (layer === undefined) throw new Error(`${file} has no layer with ${SBOM} for ${os}/${architecture}.`);
      await extract({ file: blob(layer), cwd: folder }, [SBOM]);
      const sbom = await readFile(path.join(folder, SBOM), 'utf8');
      platforms.push({ platform: `${os}/${architecture}`, digest: one, layers: inOrder, sbom });
    }
    return { digest, platforms };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
