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
