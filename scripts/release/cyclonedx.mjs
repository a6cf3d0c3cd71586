/**
 * Lists of contents (SBOM) in CycloneDX 1.5. They are reproducible: no date, no serial number.
 *
 * @typedef {object} Component
 * @property {string} type
 * @property {string} name
 * @property {string} version
 * @property {string} purl its package URL, which is also its `bom-ref`
 * @property {object[]} [licenses]
 * @property {{ alg: string, content: string }[]} [hashes]
 */

/**
 * @param {{ type: 'container' | 'library', name: string, version: string }} subject what has these contents
 * @param {readonly Component[]} components
 * @returns {string} the document
 */
export function cyclonedx(subject, components) {
  const document = {
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: { component: subject },
    components: components.map((component) => ({ ...component, 'bom-ref': component.purl })),
  };
  return `${JSON.stringify(document, null, 1)}\n`;
}

/** @param {{ name: string, version: string, license?: unknown }} manifest of an npm package @returns {Component} */
export function npmComponent({ name, version, license }) {
  const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`;
  return { type: 'library', name, version, purl, licenses: typeof license === 'string' ? [licenseOf(license)] : [] };
}

/** @param {readonly Component[]} components @returns {Component[]} each once, sorted by package URL */
export function eachOnce(components) {
  const byPurl = new Map(components.map((component) => [component.purl, component]));
  return [...byPurl.values()].sort((a, b) => (a.purl < b.purl ? -1 : 1));
}

/** @param {string} text an SPDX id or expression, or other text of the author */
function licenseOf(text) {
  if (/^[A-Za-z0-9.-]+$/.test(text) && text !== 'UNLICENSED') return { license: { id: text } };
  return / (AND|OR|WITH) /.test(text) ? { expression: text } : { license: { name: text } };
}
