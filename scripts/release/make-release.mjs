import { execFile } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { createGzip } from 'node:zlib';
import { extract } from 'tar';
import { ROOT_DIR } from '../setup/locations.mjs';
import { runCommand } from '../setup/run-command.mjs';
import { SetupError } from '../setup/run-steps.mjs';
import { fileDigest } from '../setup/unpack-wheel.mjs';
import { cleanCommit, extractSource, packFolder, writeSourceTar } from './archives.mjs';
import { buildImage, findBuilder, IMAGES, readOciArchive, withDigest } from './images.mjs';
import { productVersion } from './versions.mjs';

/** The names of what a release says about itself. */
export const RELEASE_FILE = 'release.json';
const PROVENANCE_FILE = 'provenance.intoto.json';
const SUMS_FILE = 'SHA256SUMS';
/** The files that name each package of npm, wheel and program that the release is made from, with its hash. */
const LOCKFILES = ['pnpm-lock.yaml', 'scripts/setup/pinned-wheels.mjs', 'docker/build/engine-wheels.mjs'];

const run = promisify(execFile);

/**
 * @typedef {object} ReleaseOptions
 * @property {string} out a folder that is empty or not there
 * @property {readonly string[]} images names of {@link IMAGES}
 * @property {readonly string[]} platforms of the images, where there is the image for it
 * @property {string} builder of `docker buildx`; empty: the current one
 * @property {Record<string, string>} baseImages by argument of the Dockerfile
 * @property {boolean} [cached] default true; false: each step of an image is run again
 * @property {(line: string) => void} report
 * @property {AbortSignal | undefined} [signal]
 *
 * @typedef {object} ReleaseFile
 * @property {string} name
 * @property {number} bytes
 * @property {string} sha256
 *
 * @typedef {object} ReleasedImage
 * @property {string} name
 * @property {string} file
 * @property {string} digest by which a registry will know it
 * @property {{ platform: string, digest: string, layers: string[] }[]} platforms
 *
 * @typedef {object} Release the contents of release.json
 * @property {string} version
 * @property {string} commit
 * @property {string} committed_at
 * @property {ReleaseFile[]} files
 * @property {ReleasedImage[]} images
 * @property {{ name: string, platform: string }[]} not_built images that the product has and this release has not
 * @property {Record<string, string>} base_images
 * @property {Record<string, string>} tools
 */

/**
 * Builds a release of HEAD: the source, the client, the chart, the images, a list of contents (SBOM) of each, and what it was built from.
 *
 * @param {ReleaseOptions} options
 * @returns {Promise<Release>}
 * @throws {SetupError}
 */
export async function makeRelease({ out, images, platforms, builder, cached = true, report, signal, ...options }) {
  const source = await cleanCommit(ROOT_DIR);
  const version = await productVersion(ROOT_DIR);
  if ((await readdir(out).catch(() => [])).length > 0) {
    throw new SetupError(`the folder ${out} has files`, 'name one that is empty or not there.');
  }
  const building = images.length > 0 ? await builderFor(images, platforms, builder) : undefined;
  await mkdir(out, { recursive: true });
  /** @type {Record<string, string>} */
  const baseImages = {};
  if (building) {
    for (const [name, image] of Object.entries(options.baseImages)) baseImages[name] = await withDigest(image);
  }
  const work = await mkdtemp(path.join(tmpdir(), 'lorasmith-release-'));
  try {
    const context = path.join(work, 'source');
    await extractSource(ROOT_DIR, source.commit, context);
    report(`source of ${source.commit.slice(0, 12)}`);
    await writeSource(source, version, work, out);
    report('client');
    await makeClient(context, version, out);
    report('chart');
    await packFolder(
      path.join(context, 'docker/helm/lorasmith'),
      path.join(out, `lorasmith-${version}.tgz`),
      source.epochSeconds,
    );
    /** @type {ReleasedImage[]} */
    const released = [];
    for (const name of building ? images : []) {
      signal?.throwIfAborted();
      const on = platformsOf(name, platforms);
      if (on.length === 0) continue;
      report(`image ${name} for ${on.join(' and ')}`);
      const file = `lorasmith-${name}-${version}.oci.tar`;
      await buildImage(name, {
        ...{ context, file: path.join(out, file), source, version, platforms: on, baseImages, cached, signal },
        builder: building?.name ?? '',
      });
      const { digest, platforms: built } = await readOciArchive(path.join(out, file), work);
      for (const { platform, sbom } of built) {
        const listed = `lorasmith-${name}-${version}-${platform.replace('/', '-')}.cdx.json`;
        await writeFile(path.join(out, listed), sbom);
      }
      released.push({ name, file, digest, platforms: built.map(({ sbom: _, ...rest }) => rest) });
    }
    const lockfiles = [];
    for (const name of LOCKFILES) lockfiles.push({ name, sha256: await fileDigest(path.join(context, name)) });
    const files = await filesOf(out);
    const tools = await toolsOf(building);
    const subjects = [
      ...files.map(({ name, sha256 }) => ({ name, digest: sha256 })),
      ...released.map(({ name, digest }) => ({ name: `lorasmith-${name}`, digest: digest.replace('sha256:', '') })),
    ];
    await writeFile(
      path.join(out, PROVENANCE_FILE),
      provenance({ subjects, version, commit: source.commit, lockfiles, baseImages, tools }),
    );
    /** @type {Release} */
    const release = {
      version,
      commit: source.commit,
      committed_at: new Date(source.epochSeconds * 1000).toISOString(),
      files,
      images: released,
      not_built: notBuilt(released),
      base_images: baseImages,
      tools,
    };
    await writeFile(path.join(out, RELEASE_FILE), `${JSON.stringify(release, null, 1)}\n`);
    const sums = (await filesOf(out)).map(({ name, sha256 }) => `${sha256}  ${name}\n`);
    await writeFile(path.join(out, SUMS_FILE), sums.join(''));
    return release;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/**
 * @param {readonly string[]} images @param {readonly string[]} platforms @param {string} name
 * @throws {SetupError} when the builder does not build for a platform that is wanted
 */
async function builderFor(images, platforms, name) {
  const builder = await findBuilder(name);
  const wanted = platforms.filter((platform) => images.some((image) => IMAGES[image]?.includes(platform)));
  const missing = wanted.filter((platform) => !builder.platforms.includes(platform));
  if (missing.length === 0) return builder;
  throw new SetupError(
    `the builder ${builder.name} does not build for ${missing.join(', ')}`,
    'add a machine of that kind to it (docker buildx create --append), or emulation (QEMU in binfmt_misc), ' +
      `or leave it out: --platforms ${wanted.filter((one) => !missing.includes(one)).join(',')}.`,
  );
}

/** @param {string} image @param {readonly string[]} platforms */
const platformsOf = (image, platforms) => (IMAGES[image] ?? []).filter((platform) => platforms.includes(platform));

/** @param {ReleasedImage[]} released */
function notBuilt(released) {
  return Object.entries(IMAGES).flatMap(([name, platforms]) => {
    const built = released.find((one) => one.name === name)?.platforms ?? [];
    return platforms
      .filter((platform) => !built.some((one) => one.platform === platform))
      .map((platform) => ({ name, platform }));
  });
}

/**
 * @param {import('./archives.mjs').Source} source @param {string} version
 * @param {string} work @param {string} out
 */
async function writeSource({ commit }, version, work, out) {
  const archive = path.join(work, 'source.tar');
  await writeSourceTar(ROOT_DIR, commit, archive, `lorasmith-${version}`);
  const packed = createWriteStream(path.join(out, `lorasmith-source-${version}.tar.gz`));
  await pipeline(createReadStream(archive), createGzip({ level: 9 }), packed);
  await rm(archive);
}

/** Packs the client with the commit's own script. @param {string} context @param {string} version @param {string} out */
async function makeClient(context, version, out) {
  await runCommand(process.execPath, ['scripts/pack-client.mjs'], {
    cwd: context,
    env: { ...process.env, INIT_CWD: path.resolve(out) },
  });
  const file = path.join(out, `lorasmith-client-${version}.tgz`);
  const unpacked = await mkdtemp(path.join(context, 'client-'));
  await extract({ file, cwd: unpacked, strip: 1 }, ['package/sbom.cdx.json']);
  const contents = await readFile(path.join(unpacked, 'sbom.cdx.json'));
  await writeFile(path.join(out, `lorasmith-client-${version}.cdx.json`), contents);
}

/** @param {string} folder @returns {Promise<ReleaseFile[]>} by name */
async function filesOf(folder) {
  const files = [];
  for (const name of (await readdir(folder)).sort()) {
    const file = path.join(folder, name);
    files.push({ name, bytes: (await stat(file)).size, sha256: await fileDigest(file) });
  }
  return files;
}

/** @param {import('./images.mjs').Builder | undefined} builder @returns {Promise<Record<string, string>>} versions by name */
async function toolsOf(builder) {
  const npm = (await run('npm', ['--version'])).stdout.trim();
  return {
    node: process.versions.node,
    npm,
    zlib: process.versions.zlib ?? '',
    ...(builder && { buildkit: builder.buildkit }),
  };
}

/**
 * The sources and tools of a release, as an in-toto statement with SLSA's predicate (https://slsa.dev/spec/v1.0/provenance). It has no
 * time and no name of a machine, so it is the same wherever the release is.
 *
 * @param {object} release
 * @param {{ name: string, digest: string }[]} release.subjects files and images, with their sha256
 * @param {string} release.version
 * @param {string} release.commit
 * @param {{ name: string, sha256: string }[]} release.lockfiles what names each package and its hash
 * @param {Record<string, string>} release.baseImages by argument of the Dockerfile, with digests
 * @param {Record<string, string>} release.tools versions of the programs that built it
 * @returns {string}
 */
export function provenance({ subjects, version, commit, lockfiles, baseImages, tools }) {
  const statement = {
    _type: 'https://in-toto.io/Statement/v1',
    subject: subjects.map(({ name, digest }) => ({ name, digest: { sha256: digest } })),
    predicateType: 'https://slsa.dev/provenance/v1',
    predicate: {
      buildDefinition: {
        buildType: 'urn:lorasmith:release:1',
        externalParameters: { version, ...baseImages },
        resolvedDependencies: [
          { uri: `pkg:generic/lorasmith@${version}`, digest: { gitCommit: commit } },
          ...lockfiles.map(({ name, sha256 }) => ({ uri: `file:${name}`, digest: { sha256 } })),
          ...Object.values(baseImages).map((image) => {
            const [name = '', sha256 = ''] = image.split('@sha256:');
            return { uri: `docker-image:${name}`, digest: { sha256 } };
          }),
        ],
      },
      runDetails: { builder: { id: 'urn:lorasmith:npm-run-release', version: tools } },
    },
  };
  return `${JSON.stringify(statement, null, 1)}\n`;
}
