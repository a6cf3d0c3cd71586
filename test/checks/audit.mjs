// npm run audit: checks the product's dependencies for known vulnerabilities. Exits with 1 if there are some, with 2 if the
// registry did not answer.
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import { cacheDir, ROOT_DIR, toolEnvironment } from '../../scripts/setup/locations.mjs';
import { pinnedPnpm } from '../../scripts/setup/pnpm-package.mjs';
import { runAsCommand } from '../../scripts/setup.mjs';

/**
 * The result of an audit. `unknown`: the registry's audit service did not answer. That does not stop a build, but the
 * dependencies do not count as audited.
 *
 * @typedef {{ result: 'clean' } | { result: 'vulnerable', advisories: string[] } | { result: 'unknown', why: string }} Audit
 */

const AUDIT_TIMEOUT_MS = 60_000;
/** The lowest severity that fails. Lesser vulnerabilities can wait for the next update of the dependencies. */
const FAILING = ['high', 'critical'];

/**
 * Requests the known vulnerabilities of the product's dependencies, in the versions of the lockfile, from the registry.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, registry?: string }} options `registry`: default, that of npm's settings
 * @returns {Promise<Audit>}
 */
export async function auditDependencies({ cache, env, registry }) {
  const pnpm = await pinnedPnpm({ cache, env, progress: { update() {} } });
  const args = [
    pnpm,
    'audit',
    '--prod',
    '--json',
    '--audit-level=high',
    ...(registry ? [`--registry=${registry}`] : []),
  ];
  const child = spawn(process.execPath, args, {
    cwd: ROOT_DIR,
    env: toolEnvironment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: AUDIT_TIMEOUT_MS,
  });
  const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return auditOf(output, errors);
}

/** @param {string} output @param {string} errors @returns {Audit} */
function auditOf(output, errors) {
  /** @type {any} */
  let report;
  try {
    report = JSON.parse(output);
  } catch {
    return { result: 'unknown', why: `${output}${errors}`.trim().slice(0, 500) || 'no answer in time' };
  }
  if (report.error || typeof report.advisories !== 'object' || report.advisories === null) {
    return { result: 'unknown', why: String(report.error?.message ?? output).slice(0, 500) };
  }
  const found = Object.values(report.advisories).filter(({ severity }) => FAILING.includes(severity));
  if (found.length === 0) return { result: 'clean' };
  const advisories = found.map(
    ({ module_name, severity, vulnerable_versions, title, url }) =>
      `${module_name} ${vulnerable_versions}: ${severity}: ${title} (${url})`,
  );
  return { result: 'vulnerable', advisories };
}

/**
 * Prints the result.
 *
 * @param {Audit} audit
 * @returns {boolean} whether a build may continue
 */
export function reportAudit(audit) {
  if (audit.result === 'clean') console.log('No dependency of the product has a known vulnerability of high severity.');
  if (audit.result === 'vulnerable') console.log(`Vulnerable dependencies:\n${audit.advisories.join('\n')}`);
  if (audit.result === 'unknown') {
    console.log(
      `\n*** The dependencies were NOT audited: the registry's audit service did not answer.\n*** ${audit.why}\n`,
    );
  }
  return audit.result !== 'vulnerable';
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await runAsCommand(async () => {
    const audit = await auditDependencies({ cache: cacheDir(process.env), env: process.env });
    if (!reportAudit(audit)) return 1;
    return audit.result === 'unknown' ? 2 : 0;
  });
}
