// node write-sbom.mjs SERVICE cpu|cuda|cuda-and-tensorflow|none: lists the contents of the image on standard output, as CycloneDX 1.5.
// Run in /app of the image, after its packages are installed. The file is reproducible: it has no date or serial number.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
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
const document = {
  bomFormat: 'CycloneDX',
  specVersion: '1.5',
  version: 1,
  metadata: { component: { type: 'container', name: `lorasmith-${service}`, version } },
  components: components.map((component) => ({ ...component, 'bom-ref': component.purl })),
};
process.stdout.write(`${JSON.stringify(document, null, 1)}\n`);

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
  const found = new Map();
  for (const entry of readdirSync(store)) {
    const modules = path.join(store, entry, 'node_modules');
    if (!existsSync(modules)) continue;
    for (const folder of packageFolders(modules)) {
      const {
        name,
        version: packageVersion,
        license,
      } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
      const purl = `pkg:npm/${name.replace('@', '%40')}@${packageVersion}`;
      const licenses = typeof license === 'string' ? [licenseOf(license)] : [];
      found.set(purl, { type: 'library', name, version: packageVersion, purl, licenses });
    }
  }
  return [...found.values()].sort((a, b) => (a.purl < b.purl ? -1 : 1));
}

/** @param {string} text an SPDX id or expression, or other text of the author */
function licenseOf(text) {
  if (/^[A-Za-z0-9.-]+$/.test(text) && text !== 'UNLICENSED') return { license: { id: text } };
  return / (AND|OR|WITH) /.test(text) ? { expression: text } : { license: { name: text } };
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
