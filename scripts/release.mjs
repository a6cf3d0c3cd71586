// npm run release -- --out DIR | --check DIR | --set-version X: builds what a release of the current commit has, builds it again and compares,
// or writes the version of the next one into the files that have it. See docs/releasing.md.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT_DIR } from './setup/locations.mjs';
import { SetupError } from './setup/run-steps.mjs';
import { installPackages, runAsCommand } from './setup.mjs';
import { interruption } from './stack/interruption.mjs';

const USAGE = `npm run release -- --out DIR [options]   build a release of the current commit into a folder
npm run release -- --check DIR           build it again without any cache, and compare
npm run release -- --set-version X       write the version of the next release
Options:
  --without-images        only source, client and chart
  --images A,B            not all of the images
  --platforms P,Q         of linux/amd64 and linux/arm64; default: both
  --builder NAME          a builder of docker buildx that is not Docker's own
  --node-image REF        in place of node:24-bookworm-slim
  --debian-image REF      in place of debian:bookworm-slim`;

await runAsCommand(async () => {
  const { values } = readArguments();
  const signal = interruption();
  // npm runs scripts in the repository's root.
  const from = process.env.INIT_CWD ?? process.cwd();
  const report = (/** @type {string} */ line) => process.stderr.write(`${line}\n`);
  const { 'set-version': next, check, out, builder = '' } = values;
  if ([next, check, out].filter((one) => one !== undefined).length !== 1)
    throw usageError('one of --out, --check and --set-version is needed');
  if (next !== undefined) {
    const { setVersion } = await import('./release/versions.mjs');
    for (const file of await setVersion(ROOT_DIR, next)) console.log(file);
    return 0;
  }
  await installPackages();
  // They import what was just installed.
  const { BASE_IMAGES, IMAGES } = await import('./release/images.mjs');
  if (check !== undefined) {
    const { checkRelease } = await import('./release/check-release.mjs');
    const found = await checkRelease(path.resolve(from, check), { builder, report, signal });
    console.log(found.length === 0 ? 'the same bytes' : found.join('\n'));
    return found.length === 0 ? 0 : 1;
  }
  const { makeRelease } = await import('./release/make-release.mjs');
  const images = values['without-images'] ? [] : listed('--images', values.images, Object.keys(IMAGES));
  const all = [...new Set(Object.values(IMAGES).flat())];
  const release = await makeRelease({
    ...{ images, builder, report, signal },
    out: path.resolve(from, out ?? ''),
    platforms: listed('--platforms', values.platforms, all),
    baseImages: {
      NODE_IMAGE: values['node-image'] ?? BASE_IMAGES.NODE_IMAGE,
      DEBIAN_IMAGE: values['debian-image'] ?? BASE_IMAGES.DEBIAN_IMAGE,
    },
  });
  for (const { name, bytes, sha256 } of release.files) console.log(`${sha256}  ${name} (${bytes} bytes)`);
  for (const { name, digest } of release.images) console.log(`${digest}  lorasmith-${name}:${release.version}`);
  for (const { name, platform } of release.not_built) console.log(`NOT BUILT: lorasmith-${name} for ${platform}`);
  return 0;
});

function readArguments() {
  const text = /** @type {const} */ ({ type: 'string' });
  try {
    return parseArgs({
      options: {
        out: text,
        check: text,
        'set-version': text,
        images: text,
        platforms: text,
        builder: text,
        'node-image': text,
        'debian-image': text,
        'without-images': { type: 'boolean' },
      },
    });
  } catch (cause) {
    throw usageError(/** @type {Error} */ (cause).message);
  }
}

/** @param {string} option @param {string | undefined} text @param {string[]} known */
function listed(option, text, known) {
  const names = text === undefined ? known : text.split(',');
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw usageError(`${option} knows ${known.join(', ')}, not ${unknown.join(', ')}`);
  return names;
}

/** @param {string} why */
function usageError(why) {
  return new SetupError(why, `see how it is called:\n${USAGE}`);
}
