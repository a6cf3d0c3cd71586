import { mkdtemp, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { extract } from 'tar';

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
