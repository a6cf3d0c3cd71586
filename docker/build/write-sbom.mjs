// node write-sbom.mjs SERVICE cpu|cuda|cuda-and-tensorflow|none: lists the contents of the image on standard output, as CycloneDX 1.5.
// Run in /app of the image, after its packages are installed.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { cyclonedx, eachOnce, npmComponent } from '../../scripts/release/cyclonedx.mjs';
import { wheelsOfEngine } from './engine-wheels.mjs';

const [service = '', engine = 'none'] = process.argv.slice(2);
const { version } = JSON.parse(readFileSync(`services/${service}/package.json`, 'utf8'));

const components = [
  {
    type: 'application',
    name: 'node',
    version: process.versions.node,
    purl: `pkg:generic/node@${process.versions.node}`,
  },
  ...debianPackages(),
  ...wheelsOfEngine(engine).map(wheelComponent),
  ...npmPackages('node_modules/.pnpm'),
];
process.stdout.write(cyclonedx({ type: 'container', name: `lorasmith-${service}`, version }, components));

function debianPackages() {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own placeholders
  const list = execFileSync('dpkg-query', ['-W', '-f', '${Package}\t${Version}\t${Architecture}\n'], {
    encoding: 'utf8',
  });
  return list
    .trim()
    .split('\n')
    .map((line) => {
      const [name = '', packageVersion = '', arch = ''] = line.split('\t');
      const purl = `pkg:deb/debian/${name}@${encodeURIComponent(packageVersion)}?arch=${arch}`;
      return { type: 'library', name, version: packageVersion, purl };
    });
}

/** @param {import('./engine-wheels.mjs').Wheel} wheel */
function wheelComponent({ project, version: wheelVersion, sha256 }) {
  return {
    type: 'library',
    name: project,
    version: wheelVersion,
    purl: `pkg:pypi/${project}@${wheelVersion}`,
    // The wheel's hash; the image contains a part of its files.
    hashes: [{ alg: 'SHA-256', content: sha256 }],
  };
}

/** @param {string} store pnpm's: a folder per package, in it node_modules with the package and links to what it needs */
function npmPackages(store) {
  const folders = readdirSync(store).flatMap((entry) => {
    const modules = path.join(store, entry, 'node_modules');
    return existsSync(modules) ? packageFolders(modules) : [];
  });
  return eachOnce(
    folders.map((folder) => npmComponent(JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')))),
  );
}

/** @param {string} modules @returns {string[]} the packages in it, without links */
function packageFolders(modules) {
  return readdirSync(modules, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .flatMap((entry) => {
      const folder = path.join(modules, entry.name);
      return entry.name.startsWith('@') ? packageFolders(folder) : [folder];
    });
}
