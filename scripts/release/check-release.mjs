import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';
import { SetupError } from '../setup/run-steps.mjs';
import { cleanCommit } from './archives.mjs';
import { makeRelease, RELEASE_FILE } from './make-release.mjs';

/** @typedef {import('./make-release.mjs').Release} Release */

/**
 * Builds a release again, with nothing of the builder's cache, and compares it file by file.
 *
 * @param {string} folder of the release
 * @param {{ builder: string, report: (line: string) => void, signal?: AbortSignal | undefined }} options
 * @returns {Promise<string[]>} what differs; empty: nothing
 * @throws {SetupError} when it is not a release of this commit
 */
export async function checkRelease(folder, { builder, report, signal }) {
  /** @type {Release} */
  const first = JSON.parse(
    await readFile(path.join(folder, RELEASE_FILE), 'utf8').catch((cause) => {
      throw new SetupError(`${folder} is no release: ${cause.message}`, 'name the folder that --out named.', { cause });
    }),
  );
  const { commit } = await cleanCommit(ROOT_DIR);
  if (first.commit !== commit) {
    throw new SetupError(
      `the release is of ${first.commit}, and this clone is at ${commit}`,
      `git checkout ${first.commit}, and run it again.`,
    );
  }
  const out = await mkdtemp(path.join(tmpdir(), 'lorasmith-release-again-'));
  try {
    const platforms = new Set(first.images.flatMap((image) => image.platforms.map(({ platform }) => platform)));
    const images = first.images.map(({ name }) => name);
    const options = { images, platforms: [...platforms], baseImages: first.base_images, cached: false };
    const second = await makeRelease({ ...options, out, builder, report, signal });
    return differences(first, second);
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}

/** @param {Release} first @param {Release} second @returns {string[]} */
export function differences(first, second) {
  const found = [];
  for (const [tool, version] of Object.entries(second.tools)) {
    if (first.tools[tool] !== version)
      found.push(`it was built with ${tool} ${first.tools[tool]}, and here with ${version}`);
  }
  const names = new Set([...first.files, ...second.files].map(({ name }) => name));
  for (const name of [...names].sort()) {
    const [one, other] = [first, second].map(({ files }) => files.find((file) => file.name === name)?.sha256);
    if (one !== other) found.push(`${name}: ${one ?? 'not there'}, again ${other ?? 'not there'}`);
  }
  for (const { name, platforms } of first.images) {
    for (const { platform, layers } of platforms) {
      const again = second.images.find((image) => image.name === name)?.platforms;
      const others = again?.find((one) => one.platform === platform)?.layers ?? [];
      layers.forEach((layer, i) => {
        if (layer !== others[i])
          found.push(`${name} ${platform}, layer ${i + 1} of ${layers.length}: ${layer}, again ${others[i]}`);
      });
    }
  }
  return found;
}
